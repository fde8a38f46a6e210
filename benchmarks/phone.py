"""Start-up time and peak memory of the `.tflite` from ids to ids, by LiteRT's C interface.

    python benchmarks/phone.py                        # untrained models of the presets
    python benchmarks/phone.py --export exported      # every *.ids.tflite of an export

The program is tests/native/litert.c, so no Python counts. Each figure is the median of several
processes. "Kept" are processes that find the weights in XNNPACK's order, in a file that a process
before them wrote.
"""

import argparse
import importlib.util
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "tests" / "native" / "litert.c"
PIECES = 8000
SENTENCES = 20_000  # that the vocabulary is learned from
LINES = 20
PROCESSES = 7


def main():
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--export", type=Path, nargs="*", default=[])
    parser.add_argument("--presets", nargs="*", default=["tiny", "small", "base"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = _build(folder)
        print("| file | size | ready after | memory when ready | peak | its own | a line |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        exports = options.export or [_untrained(folder / x, x) for x in options.presets]
        for export in exports:
            for model in sorted(export.glob("*.ids.tflite")):
                _measure(program, model, export / "vocab.txt", folder)


def _build(folder):
    libraries = Path(importlib.util.find_spec("ai_edge_litert").origin).parent
    program = folder / "litert"
    library = [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-l:libLiteRt.so"]
    subprocess.run(["cc", "-std=gnu11", "-O2", SOURCE, "-o", program, *library], check=True)
    return program


def _untrained(folder, preset):
    from keras_transformer.export.saved_model import export_saved_model
    from keras_transformer.export.tflite.convert import convert
    from keras_transformer.layers.caches import writing_slices
    from keras_transformer.models import Transformer, TransformerConfig
    from keras_transformer.pipelines.translator import Translator
    from keras_transformer.text import WordPieceTokenizer, learn_vocabulary
    from keras_transformer.training.data import spoken_english

    folder.mkdir()
    texts = [example.written for example in spoken_english.examples("train", SENTENCES)]
    tokenizer = WordPieceTokenizer(learn_vocabulary(texts, PIECES))
    tokenizer.save(folder / "vocab.txt")
    model = Transformer(TransformerConfig.preset(preset, vocabulary_size=len(tokenizer)))
    with writing_slices():  # as `keras-transformer export` does for `.tflite`
        export_saved_model(Translator(model, tokenizer), folder / "savedmodel", ["ids"])
    content = convert(folder / "savedmodel", ["ids"], frozenset())
    (folder / f"{preset}.ids.tflite").write_bytes(content)
    return folder


def _measure(program, model, vocabulary, folder):
    from keras_transformer.training.data import spoken_english

    lines = "".join(f"{x.spoken}\n" for x in spoken_english.examples("test", LINES))

    def run(*options):
        done = subprocess.run(
            [program, "--stats", *options, model, vocabulary],
            input=lines,
            capture_output=True,
            text=True,
            check=True,
        )
        return [float(x) for x in re.findall(r"[\d.]+", done.stderr.splitlines()[-1])]

    size = model.stat().st_size / 1e6
    cache = ["--cache", folder]
    for name, options in ((model.name, []), (f"{model.name}, kept", cache)):
        run(*options)  # which also writes what is kept
        told = [run(*options) for _ in range(PROCESSES)]
        ready, loaded, _, line, peak, own = map(statistics.median, zip(*told, strict=True))
        print(
            f"| {name} | {size:.1f} MB | {ready:.0f} ms | {loaded:.0f} MB | {peak:.0f} MB "
            f"| {own:.0f} MB | {line:.1f} ms |",
            flush=True,
        )


if __name__ == "__main__":
    main()
