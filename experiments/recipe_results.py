"""What a recipe's run came to: its curve, its files beside each other, and its first translations.

    python experiments/recipe_results.py --run runs/en-de --export exported \
        --source test.en --target test.de --tokenize none

The run and every file of the export translate the same text. The options of the search are those
that the export was made with. `--beside` draws the curves of other runs with it.
"""

import argparse
import json
from pathlib import Path

from common import plt, print_table, save

from keras_transformer.artefacts.bulk import translate
from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.export.runtime import load
from keras_transformer.files import read_lines
from keras_transformer.training.evaluation.text_scores import score_texts
from keras_transformer.training.run.run_directory import RunDirectory

BATCH_TOKENS = 1024


def main():
    """Print both tables and draw the curve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--run", type=Path, required=True, help="a trained run")
    add("--export", type=Path, required=True, help="its export")
    add("--source", type=Path, required=True, help="text to translate")
    add("--target", type=Path, required=True, help="its references")
    add("--tokenize", default="13a", help="sacrebleu's tokeniser (default: 13a)")
    add("--sentences", type=int, default=20, help="that are shown (default: 20)")
    add("--beside", type=Path, nargs="*", default=[], help="runs whose curves are drawn with it")
    add("--figure", type=Path, default=Path("docs/figures/recipe_results.png"))
    asked = parser.parse_args()
    draw([asked.run, *asked.beside], asked.figure)
    sources, references = list(read_lines(asked.source)), list(read_lines(asked.target))
    outputs = compare(asked, sources, references)
    print()
    for i, lines in enumerate(zip(sources, outputs, references, strict=True), start=1):
        if i > asked.sentences:
            break
        print("\n".join([f"{i}. {lines[0]}", *(f"   - {line}" for line in lines[1:])]))


def compare(asked, sources, references):
    """Print how close each file comes to the references and to the run.

    Returns:
        The texts of the run.
    """
    fields = json.loads((asked.export / "generation.json").read_text("utf-8"))
    del fields["jit_compile"]
    options = GenerationOptions(**fields)
    saved_model = asked.export / "savedmodel"
    tflite = sorted(asked.export.glob("model*.tflite"), key=lambda x: (len(x.suffixes), x.name))
    models = [asked.run, saved_model, *tflite]
    rows, expected = [], None
    for path in models:
        if ".ids." in path.name:  # the same weights without the tokeniser
            continue
        runtime = load(path, options if path == asked.run else None)
        texts = translate(runtime, sources, BATCH_TOKENS).texts
        scores = score_texts(texts, references, tokenize=asked.tokenize)
        if expected is None:
            expected, best, signature = texts, scores.bleu, scores.bleu_signature
        same = sum(a == b for a, b in zip(texts, expected, strict=True))
        name = "Keras (run folder)" if path == asked.run else path.name
        rows.append(
            [
                *(name, _size(path), f"{scores.bleu:.2f}", f"{scores.bleu - best:+.2f}"),
                *(f"{scores.chrf:.2f}", f"{same} of {len(texts)}"),
            ]
        )
    print_table(["model", "size", "BLEU", "to the run", "chrF", "same text"], rows)
    print(f"\n{options}\n{signature}")
    return expected


def _size(path):
    if path.suffix == ".tflite":
        return f"{path.stat().st_size / 1e6:.2f} MB"
    if path.name == "savedmodel":
        newest = max((p for p in path.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
        return f"{sum(p.stat().st_size for p in newest.rglob('*') if p.is_file()) / 1e6:.2f} MB"
    return f"{RunDirectory(path).best_path.stat().st_size / 1e6:.2f} MB"


def draw(runs, path):
    """Draw losses, accuracy on the validation text and the learning rate over the steps."""
    figure, (losses, accuracy, rate) = plt.subplots(1, 3, figsize=(10, 3))
    for run, color in zip(runs, plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False):
        text = RunDirectory.open(run).metrics_path.read_text("utf-8")
        lines = [json.loads(line) for line in text.splitlines()]

        def curve(name, lines=lines):
            return zip(*((x["step"], x[name]) for x in lines if name in x), strict=True)

        losses.plot(*curve("train/loss"), color=color, linewidth=0.8, alpha=0.6)
        losses.plot(*curve("validation/loss"), ".-", color=color, label=run.name)
        accuracy.plot(*curve("validation/token_accuracy"), ".-", color=color)
        rate.plot(*curve("train/learning_rate"), color=color)
    losses.set(xlabel="step", ylabel="loss, training (thin) and validation", ylim=(None, 6))
    losses.legend()
    accuracy.set(xlabel="step", ylabel="right tokens, validation")
    rate.set(xlabel="step", ylabel="learning rate")
    save(figure, path)


if __name__ == "__main__":
    main()
