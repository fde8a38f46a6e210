"""The benchmarks at toy size, in this process and without their peers.

What a benchmark starts as a process of its own runs here instead: what stands under `__main__` in
its file, with the arguments that it was given. So a test takes seconds, and what a later change
breaks fails with its traceback.
"""

import ast
import contextlib
import importlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

TOY = {"num_layers": 1, "num_heads": 2, "d_model": 16, "d_ff": 16}
PEERS = (
    "ctranslate2",
    "keras_hub",
    "keras_nlp",
    "onnx",
    "onnxruntime",
    "tokenizers",
    "torch",
    "transformers",
)


class Shown:
    """A `Progress` that keeps what it is told."""

    def __init__(self):
        self.said = []

    @contextlib.contextmanager
    def subject(self, name, total):
        steps = []
        yield steps.append
        assert len(steps) == total  # or the bar would never be full

    def say(self, text):
        self.said.append(text)


class Inside:
    """A `Contender` without a process; nothing but what is not installed may be missing."""

    def __init__(self, name, script, *arguments):
        self.name, self.missing = name, None
        self._script, self._arguments = script, arguments

    def wait(self):
        from results import Missing

        try:
            ready, self._answer = self._make()
        except (ImportError, Missing) as error:
            self.missing = f"{error}"
            return {"missing": self.missing}
        return ready

    def ask(self, **what):
        from results import Missing

        if self.missing:
            return {"missing": self.missing}
        try:
            return self._answer(what)
        except (ImportError, Missing) as error:
            return {"missing": f"{error}"}

    def close(self):
        pass

    def _make(self):
        made = []
        run_script(self._script, self._arguments, contend=lambda make: made.append(make()))
        return made[0]


def run_script(script, arguments, **replaced):
    """Run what stands under `if __name__ == "__main__"`."""
    module = importlib.import_module(Path(script).stem)
    body = ast.parse(Path(script).read_text("utf-8")).body[-1].body
    with given(script, arguments):
        code = compile(ast.Module(body, []), str(script), "exec")
        exec(code, {**vars(module), **replaced})


@contextlib.contextmanager
def given(*arguments):
    """Give the program its name and its arguments."""
    before, sys.argv = sys.argv, [str(x) for x in _flat(arguments)]
    try:
        yield
    finally:
        sys.argv = before


def _flat(arguments):
    for one in arguments:
        yield from one if isinstance(one, (list, tuple)) else [one]


def _run_inside(command, **options):
    """Do what `subprocess.run` does with one of our programs; run any other."""
    if command[0] != sys.executable:
        return _run(command, **options)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO(options.get("input", "")))
        if command[1] == "-c":
            with given("-c", command[3:]):
                exec(command[2], {"__name__": "__main__"})
        else:
            run_script(command[1], command[2:])
    return subprocess.CompletedProcess(command, 0, printed.getvalue())


_run = subprocess.run


@pytest.fixture
def toy(monkeypatch):
    """Make every benchmark small, and give what its `rows` take first."""
    import contenders

    from keras_transformer.models import TransformerConfig

    monkeypatch.setitem(TransformerConfig.presets, "tiny", TOY)
    for peer in PEERS:
        monkeypatch.setitem(sys.modules, peer, None)  # as if it were not installed
    monkeypatch.setattr(contenders, "limit_tensorflow", lambda *threads: None)
    for name in ("decode", "embeddings", "footprint", "recurrent", "train"):
        module = importlib.import_module(name)
        monkeypatch.setattr(module, "Contender", Inside)
        monkeypatch.setattr(module, "subprocess", Subprocess, raising=False)
    for name in ("decode_engines", "decode_limits", "embeddings_engines", "footprint_engines"):
        module = importlib.import_module(name)
        monkeypatch.setattr(module, "limit_tensorflow", lambda *threads: None)
    return Shown()


class Subprocess:
    """Stands for the module `subprocess`."""

    run = staticmethod(_run_inside)
    PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL


def figures(rows, *ours):
    """Check that each of ours was measured in every setting, and return the rows."""
    assert {row.ours for row in rows} == set(ours)
    lacking = {row.ours: row.own for row in rows if isinstance(row.own, str)}
    assert not lacking
    assert all(row.own > 0 for row in rows)
    return rows
