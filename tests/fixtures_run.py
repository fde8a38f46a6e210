"""A small trained run and its export, made once a process and shared by test modules.

The task is to write a few words in capitals. Use `shutil.copytree` before changing anything.
"""

import functools
import io
import random
from types import SimpleNamespace

import pytest
from rich.console import Console

WORDS = ["red", "blue", "green", "grey", "cat", "dog", "house", "tree", "sun", "naïve", "café."]
STEPS = 160
MODEL = {
    "num_layers": 1,
    "num_heads": 2,
    "d_model": 48,
    "d_ff": 64,
    "norm_first": True,
    "max_length": 24,
}
TRAINING = {
    "batch_tokens": 384,
    "learning_rate": 1e-2,
    "warmup_steps": 20,
    "label_smoothing": 0.05,
    "validate_every": 40,
    "checkpoint_every": 80,
}


def write_text(folder, name, count, seed=0):
    """Write parallel text, and return its files."""
    from keras_transformer.training.text_files import ParallelFiles

    rng = random.Random(f"{name} {seed}")
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(1, 5))) for _ in range(count)]
    files = ParallelFiles(folder / f"{name}.small", folder / f"{name}.capital")
    for path, texts in ((files.source, lines), (files.target, [x.upper() for x in lines])):
        path.write_text("".join(f"{x}\n" for x in texts), "utf-8")
    return files


def make_run(path, train, valid, *, model=None, training=None, **options):
    """Set up a run of a model that is small enough for a test."""
    from keras_transformer.training.new_run import new_run

    return new_run(
        path,
        train,
        valid,
        **{"steps": STEPS, "vocabulary_size": 120, **options},
        model={**MODEL, **(model or {})},
        training={**TRAINING, **(training or {})},
        console=quiet(),
    )


def quiet():
    """Return a console whose text is in `console.file.getvalue()`."""
    return Console(file=io.StringIO(), width=200)


def everything(folder):
    """Return every path in a folder with its content, to see whether anything changes."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


def once(make):
    """Keep what a function makes, for the whole process."""
    made = []

    @functools.wraps(make)
    def get(tmp_path_factory):
        if not made:
            made.append(make(tmp_path_factory))
        return made[0]

    return get


@once
def _trained(tmp_path_factory):
    from keras_transformer.training.trainer import train

    folder = tmp_path_factory.mktemp("trained")
    files = write_text(folder, "train", 800), write_text(folder, "valid", 60)
    run = make_run(folder / "run", *files)
    console = quiet()
    result = train(run, console)
    return SimpleNamespace(
        folder=folder,
        run=run,
        train=files[0],
        valid=files[1],
        result=result,
        printed=console.file.getvalue(),
    )


@once
def _exported(tmp_path_factory):
    from keras_transformer.export.bundle import export_run

    folder = tmp_path_factory.mktemp("exported") / "export"
    console = quiet()
    paths = export_run(_trained(tmp_path_factory).run, folder, console=console)
    return SimpleNamespace(folder=folder, paths=paths, printed=console.file.getvalue())


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    return _trained(tmp_path_factory)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    return _exported(tmp_path_factory)
