"""Make the runs and exports that `tests/test_earlier_files.py` loads.

It was run at the commit 2393483, before the modules of the package moved; its imports are those of
that commit, where it has to be run again if anything is added:

    python tests/golden/make_earlier.py

`make_earlier_models.py` makes the `.keras` files and the tokenisers.
"""

import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import numpy as np
from fixtures_earlier import EARLIER, PLACE, as_plain, noted, pack, place, watched, weights_of
from fixtures_run import quiet
from PIL import Image

import keras_transformer as kt
from keras_transformer.export.bundle import export_run
from keras_transformer.models.heads import SentenceEncoder, SequenceClassifier
from keras_transformer.tasks import Head
from keras_transformer.training.new_run import new_run
from keras_transformer.training.run_directory import RunDirectory
from keras_transformer.training.text_files import Mixture, ParallelFiles

WORDS = ["red", "blue", "green", "cat", "dog", "house", "tree", "sun", "naïve", "café."]
TEXTS = ["red cat café.", "the naïve dog, x"]
MODEL = {"num_layers": 1, "num_heads": 2, "d_model": 8, "d_ff": 8, "max_length": 16}
STEPS, STOP = 6, 3  # asked for, and made; the best weights are those of the checkpoint
TRAINING = {
    "batch_tokens": 96,
    "max_length": 16,
    "learning_rate": 0.02,
    "warmup_steps": 2,
    "validate_every": 3,
    "checkpoint_every": 3,
    "keep_checkpoints": 1,
}
PICTURES = {"image_size": 8, "patch_size": 4, "max_length": 8}


def main():
    EARLIER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder).resolve()
        make_runs(folder)
        make_exports(folder)


# --- Data -----------------------------------------------------------------------------------------


def write_data(folder):
    """Write a little text for every task."""
    folder.mkdir(parents=True)
    for part, count in (("train", 24), ("more", 12), ("valid", 6)):
        rng = random.Random(part)
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(2, 5))) for _ in range(count)]
        labels = ["warm" if "red" in text or "sun" in text else "cold" for text in texts]
        records = {
            "small": texts,
            "capital": [text.upper() for text in texts],
            "txt": texts,
            "labels.tsv": [f"{x}\t{label}" for x, label in zip(texts, labels, strict=True)],
            "words.jsonl": [
                json.dumps({"words": x.split(), "labels": [w[0].upper() for w in x.split()]})
                for x in texts
            ],
            "answers.tsv": [f"what is first?\t{x}\t{x.split()[0]}" for x in texts],
            "summaries.jsonl": [
                json.dumps({"document": x, "summary": x.split()[-1]}) for x in texts
            ],
        }
        for ending, lines in records.items():
            path = folder / f"{part}.{ending}"
            path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        write_pictures(folder / f"{part}-pictures", count // 3, np.random.default_rng(count))


def write_pictures(folder, count, rng):
    """Write pictures that are bright above or below."""
    for label, half in (("above", slice(0, 4)), ("below", slice(4, 8))):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 90, (8, 8), dtype=np.uint8)
            pixels[half] += 130
            Image.fromarray(pixels).save(folder / label / f"{i}.png")


# --- Runs -----------------------------------------------------------------------------------------


def parallel(data, part):
    return ParallelFiles(data / f"{part}.small", data / f"{part}.capital")


def make_runs(folder):
    """Make a run of each task that stopped in its middle, and runs that were not trained."""
    data, home = folder / "data", folder / "runs"
    write_data(data)

    def run(name, source, valid=None, *, samples=True, model=None, training=None, **options):
        data_files = (
            (source, valid) if valid else (data / f"train{source}", data / f"valid{source}")
        )
        if "init_from" not in options:
            options["model"] = {**MODEL, **(model or {})}
        made = new_run(
            home / name / "run",
            *data_files,
            **{"steps": STEPS, "vocabulary_size": 90, **options},
            training={**TRAINING, **(training or {})},
            console=quiet(),
        )
        if not samples:  # writing takes longer than all steps
            made.samples_path.unlink()
        return made

    both = parallel(data, "train"), parallel(data, "valid")
    mixed = Mixture((both[0], parallel(data, "more")), (1, 3))
    mixing = {
        "token_dropout": 0.2,
        "piece_dropout": 0.2,
        "optimizer": "adamw",
        "schedule": "cosine",
        "ema": 0.9,
        "teacher_forcing": 0.5,
    }
    made = {
        "translation": run("translation", *both, samples=False),
        "mixture": run("mixture", mixed, both[1], samples=False, training=mixing),
        "summarisation": run(
            "summarisation",
            ".summaries.jsonl",
            task="summarisation",
            samples=False,
            tokenizer="words",
            model={"positions": "rotary", "norm_first": True},
        ),
        "causal-lm": run("causal-lm", ".txt", task="causal-lm", samples=False),
        "masked-lm": run("masked-lm", ".txt", task="masked-lm"),
        "classification": run(
            "classification",
            ".labels.tsv",
            task="classification",
            tokenizer="bert",
            head={"pooling": "mix"},
            training={"optimizer": "adafactor", "schedule": "linear"},
        ),
        "token-classification": run(
            "token-classification",
            ".words.jsonl",
            task="token-classification",
            tokenizer="characters",
            training={"max_length": 32, "schedule": "one-cycle", "warmup_steps": 3},
            model={"max_length": 32},
        ),
        "question-answering": run(
            "question-answering",
            ".answers.tsv",
            task="question-answering",
            training={"max_length": 32, "batch_tokens": 192},
            model={"max_length": 32},
        ),
        "image-classification": run(
            "image-classification",
            data / "train-pictures",
            data / "valid-pictures",
            task="image-classification",
            model=PICTURES,
            training={"max_length": 5, "batch_tokens": 40},
        ),
    }
    for one in made.values():
        with watched(STOP) as steps:
            kt.training.train(one, quiet())
        assert len(steps) == one.steps_done() == STOP
    made["fine-tuning"] = run(
        "fine-tuning", ".labels.tsv", task="classification", init_from=made["masked-lm"].path
    )
    made["embedding"] = imported(home, "embedding", SentenceEncoder, made["masked-lm"])
    made["pairs"] = imported(home, "pairs", SequenceClassifier, made["masked-lm"])
    for name in made:
        record(home / name, folder)
    shutil.copytree(data, home / "data")
    for path in (home / "data").glob("more*"):
        if path.suffix not in (".small", ".capital"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    pack(home, EARLIER / "runs.tar.xz")


def imported(home, task, model_class, start):
    """Make a run as `import` does: with weights, and with nothing to train."""
    head = {
        "embedding": Head("embedding", (), {"pooling": ["mean", "max"], "prompt": "red "}, 12),
        "pairs": Head("classification", ("no", "yes"), {"pairs": True, "scores": "sigmoid"}),
    }[task]
    taken = {name: x for name, x in head.settings.items() if name in model_class.settings}
    if task == "pairs":
        taken["num_labels"] = 2
    keras.utils.set_random_seed(3)
    model = model_class(start.model_config(), **taken)
    return RunDirectory.create(
        home / task / "run",
        start.model_config(),
        None,
        start.tokenizer(),
        TEXTS,
        head=head,
        weights=model,
    )


def record(folder, place_of_data):
    """Note what a run has and answers, and how a copy of it goes on; then leave out the rest."""
    path = folder / "run"
    shutil.rmtree(path / "tensorboard", ignore_errors=True)
    config = path / "config.json"
    config.write_text(config.read_text("utf-8").replace(str(place_of_data), PLACE), "utf-8")
    copy = shutil.copytree(path, folder / "copy")
    place(copy, place_of_data)
    run = kt.training.RunDirectory.open(copy)
    expected = {}
    if run.was_trained_here:
        with watched() as steps:
            result = kt.training.train(run, quiet())
        expected |= {"steps": steps, "noted": noted(copy), "best": result.best, "last": result.last}
    shutil.rmtree(copy)
    if list(path.glob("*.weights.h5")) != [path / "initial.weights.h5"]:
        run = kt.training.RunDirectory.open(path)
        expected["weights"] = weights_of(run.load_model())
        expected["samples"] = run.samples()
        artefact = kt.export.load(path)
        expected["signatures"] = sorted(artefact.signatures)
        expected["calls"] = calls_of(artefact)
        if artefact.tokenizer is not None:
            expected["vocabulary"] = artefact.vocabulary
            expected["ids"] = artefact.tokenizer.tokenize(TEXTS).to_list()
    write(folder / "expected.json", expected)


def write(path, values):
    path.write_text(json.dumps(values, separators=(",", ":")), "utf-8")


# --- What is answered -----------------------------------------------------------------------------


def calls_of(artefact):
    """Call every signature of an artefact, and note what it was called with and what it gave."""
    given = {
        "text": np.array([x.encode() for x in TEXTS], object),
        "target": np.array([b"RED CAT", "DOG, CAFÉ.".encode()], object),
        "prefix": np.array([b"RED", b""], object),
        "text_pair": np.array([b"blue sun", b"tree"], object),
        "question": np.array([b"what is first?", b"what?"], object),
        "passage": np.array([b"red sun", b"tree house dog"], object),
        "seed": np.array([3, 4], "int32"),
        "ids": np.array([[6, 9, 12, 7], [8, 5, 0, 0]], "int32"),
        "segment_ids": np.array([[0, 0, 1, 1], [0, 1, 0, 0]], "int32"),
        "pixels": np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype("float32").round(2),
    }
    calls = []
    for signature in sorted(artefact.signatures):
        if signature.endswith("_step"):
            continue  # with the state that comes below
        specs = artefact.specs(signature)[0]
        if "image" in specs:
            continue  # the bytes of pictures are no text; `pixels` is called
        inputs = {name: given[name] for name in specs}
        outputs = artefact.call(signature, **inputs)
        one = {"signature": signature, "inputs": as_plain(inputs)}
        if not signature.endswith("_start"):
            calls.append({**one, "outputs": as_plain(outputs)})
            continue
        kind = signature.removesuffix("_start")
        pieces = list(getattr(artefact, kind)(TEXTS[0]))
        shapes = {name: [str(x.dtype), list(x.shape)] for name, x in sorted(outputs.items())}
        calls.append({**one, "state": shapes, "pieces": pieces})
    return calls


# --- Exports --------------------------------------------------------------------------------------


def make_exports(folder):
    """Export runs, and note what every file answers."""
    kinds = {
        "translation": ("translation", None),
        "beam": ("translation", kt.decoding.GenerationOptions(beam_size=3, num_hypotheses=2)),
        "causal-lm": ("causal-lm", kt.decoding.GenerationOptions(temperature=0.7, seed=5)),
        "classification": ("classification", None),
    }
    home = folder / "exports"
    home.mkdir()
    for name, (run, options) in kinds.items():
        output = home / name
        source = shutil.copytree(folder / "runs" / run / "run", folder / f"run-{name}")
        place(source, folder)
        opened = kt.training.RunDirectory.open(source)
        export_run(
            opened, output, quiet(), options, name=name, precisions=[], max_quality_loss=1000
        )
        expected = {}
        if name == "beam":
            for path in output.glob("*.tflite"):
                path.unlink()
        for file in ("savedmodel", *sorted(p.name for p in output.glob("*.tflite"))):
            if ".ids." in file:
                expected[file] = ids_calls(output / file)
                continue
            artefact = kt.export.load(output if file == "savedmodel" else output / file)
            expected[file] = {
                "signatures": sorted(artefact.signatures),
                "vocabulary": artefact.vocabulary,
                "description": artefact.description,
                "warmup": [[x, [str(t) for t in texts]] for x, texts in artefact.warmup()],
                "calls": calls_of(artefact),
            }
        write(output / "expected.json", expected)
    pack(home, EARLIER / "exports.tar.xz")


def ids_calls(path):
    """Run a file that takes pieces, as a phone does."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner("ids")
    inputs = {"ids": np.array([[6, 9, 12, 7], [8, 5, 0, 0]], "int32")}
    return {"inputs": as_plain(inputs), "outputs": as_plain(runner(**inputs))}


if __name__ == "__main__":
    main()
