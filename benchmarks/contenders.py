"""Contenders are processes of their own that take turns, told what to do by lines of JSON."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time

from results import Missing

THREADS = int(os.environ.get("THREADS", "2"))  # that each may use
FAILURES = (Missing, ImportError, OSError, ValueError, RuntimeError)


class Contender:
    """A process that runs one side of a comparison, seen from its parent.

    Args:
        name: Of the contender.
        script: The Python file that calls `contend`.
        arguments: Of the script.
    """

    def __init__(self, name, script, *arguments):
        self.name = name
        self.missing = None  # or why it can't take part
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (close does)
        self._child = subprocess.Popen(
            [sys.executable, script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("SHOW") else self._errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
        )

    def wait(self):
        """Wait for what it says when it is ready, or why it can't be."""
        answer = self._read()
        self.missing = answer.get("missing")
        return answer

    def ask(self, **what):
        """Let it do something and return the answer."""
        if not self.missing:
            try:
                print(json.dumps(what), file=self._child.stdin, flush=True)
            except BrokenPipeError:
                self.missing = self._last_words()
        return {"missing": self.missing} if self.missing else self._read()

    def close(self):
        """End the process."""
        with self._errors, self._child, contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()

    def _read(self):
        line = self._child.stdout.readline()
        if line:
            return json.loads(line)
        self.missing = self._last_words()
        return {"missing": self.missing}

    def _last_words(self):
        code = self._child.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f"died ({code}): {lines[-1] if lines else 'SHOW=1 may show why'}"


def contend(make):
    """Be a contender.

    Args:
        make: Function that gets ready, and returns what to say then, and a function from a
            question to an answer, all dicts. Both may raise one of `FAILURES`, which says why
            something is missing.
    """
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer

    def say(values):
        print(json.dumps(values), file=answers, flush=True)

    try:
        ready, answer = make()
    except FAILURES as error:
        say(missing(error))
        return
    say(ready)
    for line in sys.stdin:
        try:
            say(answer(json.loads(line)))
        except FAILURES as error:
            say(missing(error))


def missing(error):
    """Say why something is missing."""
    return {"missing": f"{error}".strip().partition("\n")[0] or type(error).__name__}


def in_turn(contenders, turn):
    """Give the contenders of a turn one by one, each turn beginning with another."""
    shift = turn % max(len(contenders), 1)
    for contender in contenders[shift:] + contenders[:shift]:
        time.sleep(0.02)  # threads of the last one may still be spinning
        yield contender


def limit_tensorflow(threads=THREADS):
    """Let TensorFlow use so many threads as the others."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
