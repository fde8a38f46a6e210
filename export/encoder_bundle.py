"""Exporting what gives labels or vectors for text: every artefact proven, then put in place."""

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_transformer.errors import InputError
from keras_transformer.export import tf_serving
from keras_transformer.export.bundle import SAVED_MODEL, put_in_place, size_of, write_tflite
from keras_transformer.export.model_card import PACKAGES, ops_of
from keras_transformer.export.parity import EDGE_CASES
from keras_transformer.export.runtime import CARD, EXTRA
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite import PRECISIONS
from keras_transformer.tasks import CLASSIFICATION
from keras_transformer.text import save_tokenizer
from keras_transformer.training.files import scratch_folder, write_json
from keras_transformer.training.run_directory import RunDirectory
from keras_transformer.training.spoken_english import examples

VECTORS = {"embedding": "embedding", CLASSIFICATION: "probabilities"}  # what is compared, by task
PROBES = 60  # generated sentences, for a run without samples
BATCH = 16
# How far numbers of a float32 artefact may be from the model's.
TOLERANCE = {"savedmodel": 1e-5, "tflite": 1e-4}


def export_encoder(
    run: RunDirectory,
    output: Path,
    name: str,
    console: Console,
    keep: int,
    precisions,
    max_quality_loss: float,
) -> dict[str, Path]:
    """Export a run for classification or embedding; see `export_run` for the files.

    In float32 an artefact gives the model's numbers. A smaller `.tflite` gives nearly those: as
    quality counts, of labels, the share that is the same, and of embeddings, Spearman's
    correlation of the cosines of all pairs of sentences, both in per cent.

    Args:
        run: The run directory.
        output: Folder to write, known to be free.
        name: The model's name.
        console: Where progress is shown.
        keep: How many versions stay; 0 for all.
        precisions: Which `.tflite` files are written. float32 always is.
        max_quality_loss: Most points of quality that a `.tflite` may lose.

    Returns:
        The paths by name.

    Raises:
        InputError: If an artefact disagrees with the model or loses too much.
    """
    servable = run.servable()
    task = run.head().task
    texts = [*(run.samples() or [one.spoken for one in examples("test", PROBES)]), *EDGE_CASES]
    wanted = [p for p in PRECISIONS if p in {"float32", *precisions}]
    with scratch_folder(output.parent) as scratch, console.status("Exporting") as status:
        tokenizer_files = scratch / "tokenizer"
        save_tokenizer(run.tokenizer(), tokenizer_files)
        inside = sorted(path.name for path in tokenizer_files.iterdir())
        for path in tokenizer_files.iterdir():
            shutil.copy(path, scratch / path.name)
        readable = [file for file in inside if _is_text(scratch / file)]
        lite = write_tflite(servable, scratch, name, wanted, status, readable)
        status.update("Writing the SavedModel")
        saved_model = scratch / SAVED_MODEL
        export_saved_model(servable, saved_model)
        status.update("Running every file in a fresh process")
        artefacts = [saved_model, *lite.values()]
        trials = run_in_fresh_process(artefacts, texts, VECTORS[task])
        expected = _vectors(servable, texts, VECTORS[task])
        measured = [
            _compare(path, trial, expected, task, max_quality_loss)
            for path, trial in zip(artefacts, trials, strict=True)
        ]
        card = {
            "name": name,
            "task": task,
            "description": _describe(run),
            "labels": list(run.head().labels),
            "model": run.model_config().to_dict(),
            "versions": {package: version_of(package) for package in PACKAGES},
            "ops": ops_of(saved_model),
            "minimum_server_version": tf_serving.MINIMUM_SERVER,
            "files": [dataclasses.asdict(one) for one in measured],
            "quality": f"agreement with the model in per cent, {len(texts)} sentences",
        }
        write_json(scratch / CARD, card)
        extra = saved_model / EXTRA
        extra.mkdir()
        for file in (*inside, CARD):
            shutil.copy(scratch / file, extra)
        words = " ".join(texts).split()
        tf_serving.write_warmup(
            saved_model,
            name,
            tf_serving.warmup_texts(servable.tokenizer, words, servable.max_length),
            ("serving_default",),
        )
        for file, text in tf_serving.configuration(name).items():
            (scratch / file).write_text(text, "utf-8")
        shutil.rmtree(tokenizer_files)
        version = put_in_place(scratch, output, lite)
    removed = tf_serving.prune(output / SAVED_MODEL, keep)
    table = Table("file", "MB", "texts/s", "agreement", title=card["quality"])
    for one in measured:
        label = f"{SAVED_MODEL}/{version.name}" if one.file == SAVED_MODEL else one.file
        table.add_row(
            label, f"{one.bytes / 1e6:.2f}", f"{one.texts_per_second:,.0f}", f"{one.agreement:.2f}"
        )
    console.print(table)
    console.print(
        f"{output}: version {version.name}; all in float32 agree with the model on {len(texts)} "
        "sentences"
    )
    if removed:
        console.print(f"Removed versions {', '.join(map(str, removed))}")
    return {
        "savedmodel": output / SAVED_MODEL,
        **{key: output / path.name for key, path in lite.items()},
    }


def _is_text(path):
    try:
        path.read_text("utf-8")
        return True
    except UnicodeDecodeError:
        return False


def _describe(run):
    head = run.head()
    if head.task == CLASSIFICATION:
        return f"Says of a text which of {', '.join(head.labels)} it is."
    return "Gives a text a vector, so that texts of like meaning have vectors of like direction."


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of a file in a fresh process."""

    file: str
    bytes: int
    texts_per_second: float
    agreement: float  # with the model, in per cent
    largest_difference: float  # of any number


def _compare(path, trial, expected, task, max_quality_loss):
    got = np.array(trial["vectors"], "float32")
    difference = float(np.abs(got - expected).max())
    agreement = 100 * (
        float((got.argmax(axis=1) == expected.argmax(axis=1)).mean())
        if task == CLASSIFICATION
        else rank_correlation(got, expected)
    )
    exact = not any(precision in path.name for precision in PRECISIONS)
    limit = TOLERANCE["savedmodel" if path.name == SAVED_MODEL else "tflite"]
    if exact and not difference <= limit:
        raise InputError(
            f"{path.name} disagrees with the model it was made from by {difference:.2g}, so "
            "nothing was written."
        )
    if not 100 - agreement <= max_quality_loss:
        raise InputError(
            f"{path.name} agrees with the model by {agreement:.2f} per cent only, so nothing was "
            "written. Leave its precision out by --tflite, or allow more by --max-quality-loss, "
            f"now {max_quality_loss:g}."
        )
    rate = round(trial["texts_per_second"], 1)
    return Measured(path.name, size_of(path), rate, agreement, difference)


def rank_correlation(vectors, others) -> float:
    """Compute Spearman's correlation of the products of all pairs of vectors, theirs and others'.

    Args:
        vectors: Float array `(N, D)`.
        others: Float array `(N, D)`.
    """
    pairs = np.triu_indices(len(vectors), k=1)
    ours, theirs = (np.argsort(np.argsort((x @ x.T)[pairs])) for x in (vectors, others))
    return float(np.corrcoef(ours, theirs)[0, 1])


# --- The fresh process ----------------------------------------------------------------------------


def run_in_fresh_process(artefacts, texts, output: str) -> list[dict]:
    """Run artefacts on texts, one after the other, in a process of their own.

    Returns:
        For each artefact `vectors`, what it gave, and `texts_per_second`.

    Raises:
        InputError: If the process fails; the message holds the end of what it said.
    """
    child = subprocess.run(
        [sys.executable, "-m", "keras_transformer.export.encoder_bundle", *map(str, artefacts)],
        input=json.dumps({"texts": texts, "output": output}),
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        names = ", ".join(artefact.name for artefact in artefacts)
        raise InputError(f"{names} do not run in a fresh process:\n{child.stderr[-2000:]}")
    return json.loads(child.stdout)


def _vectors(artefact, texts, output):
    parts = [
        artefact.call("serving_default", text=texts[i : i + BATCH])[output]
        for i in range(0, len(texts), BATCH)
    ]
    return np.concatenate(parts)


class IdsModel:
    """The file from ids to vectors, with the text cut outside of it.

    Args:
        path: The file; those of the tokeniser are beside it.
    """

    def __init__(self, path: Path):
        from keras_transformer.export.runtime import interpreter
        from keras_transformer.text import load_tokenizer

        self._tokenizer = load_tokenizer(path.parent)
        self._runner = interpreter(path).get_signature_runner("ids")

    def call(self, signature, text):
        """Call the file; see `Artefact.call`."""
        padding = self._tokenizer.padding_id
        ids = self._tokenizer.tokenize(text).to_tensor(padding)
        return self._runner(ids=ids.numpy())


def _main(artefacts: list[Path]) -> None:
    from keras_transformer.export.runtime import load

    asked = json.load(sys.stdin)
    trials = []
    for path in artefacts:
        artefact = (IdsModel if path.name.endswith(".ids.tflite") else load)(path)
        _vectors(artefact, asked["texts"], asked["output"])  # kernels are made for each new shape
        since = time.perf_counter()
        vectors = _vectors(artefact, asked["texts"], asked["output"])
        rate = len(asked["texts"]) / (time.perf_counter() - since)
        trials.append({"vectors": vectors.tolist(), "texts_per_second": rate})
    json.dump(trials, sys.stdout)


if __name__ == "__main__":
    _main([Path(name) for name in sys.argv[1:]])
