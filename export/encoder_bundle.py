"""Exporting what gives labels, vectors and the like: every artefact proven, then put in place."""

import base64
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

from keras_transformer.artefacts.artefact import SAVED_MODEL
from keras_transformer.errors import InputError
from keras_transformer.export import tf_serving
from keras_transformer.export.folder import (
    CARD,
    EXTRA,
    PRECISIONS,
    is_text,
    prune,
    put_in_place,
    size_of,
    write_tokenizer,
    writing_export,
)
from keras_transformer.export.model_card import PACKAGES, ops_of
from keras_transformer.export.parity import EDGE_CASES
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite.write import write_tflite
from keras_transformer.files import write_json
from keras_transformer.pipelines.servable import Proof
from keras_transformer.training.data.spoken_english import examples
from keras_transformer.training.run.run_directory import RunDirectory

PROBES = 60  # generated sentences, for a run without samples
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
    """Export a run that writes no text; see `export_run` for the files.

    In float32 an artefact gives the model's numbers. A smaller `.tflite` gives nearly those: as
    quality counts, of answers such as labels, the share that is the same, and of embeddings,
    Spearman's correlation of the cosines of all pairs of sentences, both in per cent. What is asked
    and compared is the servable's to say, by `Servable.proofs`.

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
    texts = [*(run.samples() or [one.spoken for one in examples("test", PROBES)]), *EDGE_CASES]
    wanted = [p for p in PRECISIONS if p in {"float32", *precisions}]
    with writing_export(output) as scratch, console.status("Exporting") as status:
        inside = write_tokenizer(servable.tokenizer, scratch)
        readable = [file for file in inside if is_text(scratch / file)]
        lite = write_tflite(servable, scratch, name, wanted, status, readable)
        status.update("Writing the SavedModel")
        saved_model = scratch / SAVED_MODEL
        export_saved_model(servable, saved_model)
        status.update("Running every file in a fresh process")
        found = servable.proofs(texts)
        proofs = {saved_model: found[SAVED_MODEL]}
        proofs |= {path: found[_kind_of(path)] for path in lite.values()}
        trials = run_in_fresh_process(proofs)
        measured = [
            _compare(path, proof, trial, asked(servable, proof), max_quality_loss)
            for (path, proof), trial in zip(proofs.items(), trials, strict=True)
        ]
        what = "pictures" if servable.tokenizer is None else "sentences"
        card = {
            "name": name,
            "task": run.head().task,
            "description": servable.description,
            "labels": list(run.head().labels),
            "model": run.model_config().to_dict(),
            "versions": {package: version_of(package) for package in PACKAGES},
            "ops": ops_of(saved_model),
            "minimum_server_version": tf_serving.MINIMUM_SERVER,
            "files": [dataclasses.asdict(one) for one in measured],
            "quality": f"agreement with the model in per cent, {len(texts)} {what}",
        }
        write_json(scratch / CARD, card)
        extra = saved_model / EXTRA
        extra.mkdir()
        for file in (*inside, CARD):
            shutil.copy(scratch / file, extra)
        if servable.inputs("serving_default").keys() == {"text"}:
            words = " ".join(texts).split()
            tf_serving.write_warmup(
                saved_model,
                name,
                tf_serving.warmup_texts(servable.tokenizer, words, servable.max_length),
                ("serving_default",),
            )
        for file, text in tf_serving.configuration(name).items():
            (scratch / file).write_text(text, "utf-8")
        version = put_in_place(scratch, output, lite)
    removed = prune(output / SAVED_MODEL, keep)
    table = Table("file", "MB", f"{what}/s", "agreement, %", title=card["quality"])
    for one in measured:
        label = f"{SAVED_MODEL}/{version.name}" if one.file == SAVED_MODEL else one.file
        table.add_row(
            label, f"{one.bytes / 1e6:.2f}", f"{one.texts_per_second:,.0f}", f"{one.agreement:.2f}"
        )
    console.print(table)
    console.print(
        f"{output}: version {version.name}; all in float32 agree with the model on {len(texts)} "
        f"{what}"
    )
    if removed:
        console.print(f"Removed versions {', '.join(map(str, removed))}")
    return {
        "savedmodel": output / SAVED_MODEL,
        **{key: output / path.name for key, path in lite.items()},
    }


def _kind_of(path):
    return "ids" if path.name.endswith(".ids.tflite") else ""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of a file in a fresh process."""

    file: str
    bytes: int
    texts_per_second: float
    agreement: float  # with the model, in per cent
    largest_difference: float  # of any number


def _compare(path, proof, trial, expected, max_quality_loss):
    difference = max(
        float(np.abs(got - wanted).max(initial=0))
        for got, wanted in zip(trial["numbers"], expected["numbers"], strict=True)
    )
    if proof.answer is None:
        agreement = rank_correlation(*map(np.concatenate, (trial["numbers"], expected["numbers"])))
    else:
        pairs = zip(trial["answers"], expected["answers"], strict=True)
        agreement = float(np.concatenate([_same(*pair) for pair in pairs]).mean())
    agreement *= 100
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


def _same(got, expected):
    """Say which answers are the same: of strings each that is not empty, of numbers each row."""
    if expected.dtype == object:
        return (got == expected)[expected != b""]
    return (got == expected).reshape(len(expected), -1).all(axis=1)


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


def run_in_fresh_process(proofs: dict[Path, Proof]) -> list[dict]:
    """Ask files for what proves them, one after the other, in a process of their own.

    Returns:
        For each file `numbers` and `answers`, an array for each batch, and `texts_per_second`.

    Raises:
        InputError: If the process fails; the message holds the end of what it said.
    """
    child = subprocess.run(
        [sys.executable, "-m", "keras_transformer.export.encoder_bundle"],
        input=json.dumps([[str(path), _packed(proof)] for path, proof in proofs.items()]),
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        names = ", ".join(path.name for path in proofs)
        raise InputError(f"{names} do not run in a fresh process:\n{child.stderr[-2000:]}")
    return [_unpacked(trial) for trial in json.loads(child.stdout)]


def _packed(value):
    """Turn arrays, wherever they are in plain values, into something that JSON can hold."""
    if isinstance(value, Proof):
        return _packed(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {name: _packed(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(one) for one in value]
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == object:
        rows = [base64.b64encode(one).decode() for one in value.ravel().tolist()]
        return {"strings": rows, "shape": value.shape}
    data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
    return {"data": data, "dtype": value.dtype.str, "shape": value.shape}


def _unpacked(value):
    """Undo `_packed`."""
    if isinstance(value, list):
        return [_unpacked(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"strings", "shape"}:
        rows = [base64.b64decode(one) for one in value["strings"]]
        return np.array([*rows, None], object)[:-1].reshape(value["shape"])
    if value.keys() == {"data", "dtype", "shape"}:
        data = base64.b64decode(value["data"])
        return np.frombuffer(data, value["dtype"]).reshape(value["shape"])
    return {name: _unpacked(one) for name, one in value.items()}


def asked(artefact, proof: Proof) -> dict[str, list]:
    """Ask for what proves an artefact: `numbers` and `answers`, an array for each batch."""
    outputs = [artefact.call(proof.signature, **batch) for batch in proof.batches]
    return {
        "numbers": [some[proof.numbers] for some in outputs],
        "answers": [] if proof.answer is None else [some[proof.answer] for some in outputs],
    }


class IdsFile:
    """A file that takes pieces, for which the text is cut outside of it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        from keras_transformer.export.runtime import interpreter

        self._interpreter = interpreter(path)

    def call(self, signature, **inputs):
        """Call a signature; see `Artefact.call`."""
        return self._interpreter.get_signature_runner(signature)(**inputs)


def try_out(proofs: dict[Path, Proof]) -> list[dict]:
    """Ask files for what proves them, in this process; see `run_in_fresh_process`."""
    from keras_transformer.export.runtime import load

    trials = []
    for path, proof in proofs.items():
        artefact = IdsFile(path) if _kind_of(path) else load(path)
        asked(artefact, proof)  # kernels are made for each new shape
        since = time.perf_counter()
        found = asked(artefact, proof)
        seconds = time.perf_counter() - since
        count = sum(len(next(iter(batch.values()))) for batch in proof.batches)
        trials.append({**found, "texts_per_second": count / seconds})
    return trials


if __name__ == "__main__":
    given = {Path(name): Proof(**_unpacked(proof)) for name, proof in json.load(sys.stdin)}
    json.dump(_packed(try_out(given)), sys.stdout)
