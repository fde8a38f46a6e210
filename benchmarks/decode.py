"""Decoding, beside CTranslate2, transformers' MarianMTModel and a loop without caches.

Every engine is a process of its own with the same weights and the same sources. They take turns, so
that what disturbs the machine disturbs all of them; what counts is the ratio of turns that follow
each other. Each has two threads, or, in LiteRT and CTranslate2, one where one is faster. Calls are
timed as a whole, from ids to ids. Before any timing every engine's outputs are compared with ours.

    python benchmarks/decode.py [--models tiny,base] [--batches 1,8,32] [--beams 1,4]
    python benchmarks/decode.py --run RUN --source FILE

The first form decodes 24 random tokens to exactly 32. The second translates the lines of a file
with a trained run, in batches of 32 of similar length, to where each translation ends.

`savedmodel-xla` is our SavedModel exported with `jit_compile`, `savedmodel` without it. `tflite`
and `tflite-int8` are our `.tflite` with weights in float32 and in int8, `recompute-all` greedy
search with our Keras model that runs the whole of it on the whole prefix for every token.
Environment variables reach the engines: CT2_VERBOSE=1 with SHOW=1 tells which kernels CTranslate2
has chosen.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import decode_agreement
import decode_engines
import decode_limits
import decode_models
import progress
from contenders import Contender, in_turn
from results import beside

QUICK = {"models": ["tiny"], "batches": [1, 32], "beams": [1], "starts": 1, "rounds": 3}


@dataclasses.dataclass
class Cell:
    """One setting: what its engines wrote, and how long it took."""

    model: str
    job: str  # "batch 8", or "text"
    beam: int
    seconds: dict[str, list[float]]
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    limits: list[dict[str, float]] = dataclasses.field(default_factory=list)
    count: dict[str, int] = dataclasses.field(default_factory=dict)  # of what rates are of

    @property
    def name(self):
        """The setting in words."""
        search = "greedy" if self.beam == 1 else f"beam {self.beam}"
        return f"{self.model}, {self.job}, {search}"


def rows(
    shown,
    models=("tiny", "base"),
    batches=(1, 8, 32),
    beams=(1, 4),
    starts=3,
    rounds=5,
    engines=tuple(decode_engines.ENGINES),
    run=None,
    source=None,
):
    """Compare the engines on every model.

    Args:
        shown: A `Progress`.
        models: Presets.
        batches: Rows a call.
        beams: Numbers of beams; 1 is greedy search.
        starts: Processes of each engine, one after the other.
        rounds: Turns of each process in a cell.
        engines: Their names.
        run: A trained run folder to compare them on instead.
        source: The text file to translate with it.

    Returns:
        A list of `results.Row`.
    """
    models = [run] if run else models
    jobs = ["text"] if run else [f"batch {batch}" for batch in batches]
    found = []
    total = len(models) * (1 + starts * (1 + len(jobs) * len(beams) * (1 + rounds)))
    with shown.subject("decode", total) as step:
        for model in models:
            cells = [
                Cell(Path(model).name, job, beam, {name: [] for name in engines})
                for job in jobs
                for beam in beams
            ]
            given = {"run": run, "source": source} if run else {"preset": model}
            with tempfile.TemporaryDirectory() as folder:
                step(f"{model}: writing it for every engine")
                _prepare(folder, engines=engines, beams=beams, batches=batches, **given)
                for start in range(starts):
                    step(f"{model}, start {start + 1} of {starts}: loading")
                    _compare(Path(folder), cells, engines, rounds, step, shown.say)
                config = json.loads((Path(folder) / "config.json").read_text())
            found += [row for cell in cells for row in _rows(config, cell)]
    return found


def _prepare(folder, **what):
    subprocess.run(
        [sys.executable, decode_models.__file__, folder, json.dumps(what)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("SHOW") else subprocess.DEVNULL,
    )


def _compare(folder, cells, names, rounds, step, say):
    """Start the engines and let them take turns in every cell.

    Processes of the same program differ by up to a tenth for all of their life, so that each
    engine is to be started more than once.
    """
    limit, *engines = (
        Contender(name, decode_engines.__file__, name, folder) for name in ("limit", *names)
    )
    for engine in (limit, *engines):
        engine.wait()
    for cell in cells:
        what = {"job": cell.job, "beam": cell.beam}
        step(f"{cell.name}: comparing outputs")
        answers = {engine.name: engine.ask(do="decode", **what) for engine in engines}
        cell.missing |= {name: a["missing"] for name, a in answers.items() if "missing" in a}
        if not cell.limits:  # the first start
            _check(folder, cell, {n: a["rows"] for n, a in answers.items() if "rows" in a}, say)
        for turn in range(rounds):
            step(f"{cell.name}: turn {turn + 1} of {rounds}")
            cell.limits.append(limit.ask())
            there = [engine for engine in engines if engine.name not in cell.missing]
            for engine in in_turn(there, turn):
                answer = engine.ask(do="time", **what)
                if "missing" in answer:
                    cell.missing[engine.name] = answer["missing"]
                else:
                    cell.seconds[engine.name].append(answer["seconds"])
    for engine in (limit, *engines):
        engine.close()


def _check(folder, cell, given, say):
    """Compare outputs, leave out what differs, and count what is written."""
    if not given:
        return
    same, wrong = decode_agreement.agreement(folder, cell.job, cell.beam, given)
    cell.missing |= wrong
    for name, written in given.items():
        cell.count[name] = len(written) if cell.job == "text" else sum(map(len, written))
    listed = ", ".join(f"{name} {text}" for name, text in same.items())
    say(f"{cell.name}: same rows as the first: {listed}")


def _rows(config, cell):
    measured = {
        name: cell.missing.get(name) or [cell.count[name] / taken for taken in seconds]
        for name, seconds in cell.seconds.items()
    }
    ours = [name for name in decode_engines.OURS if name in measured]
    notes = {}
    if cell.job != "text":
        batch = int(cell.job.split()[1])
        for name in ours:
            if name not in cell.missing:
                notes[name] = decode_limits.note(
                    config, measured[name], batch, cell.beam, cell.limits
                )
    unit = "sentences/s" if cell.job == "text" else "tokens/s"
    return beside("decoding", cell.name, unit, ours, measured, notes=notes)


def main():
    """Run all engines and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = list(decode_engines.ENGINES)
    texts = {"type": lambda text: text.split(",")}
    numbers = {"type": lambda text: [int(number) for number in text.split(",")]}
    add = parser.add_argument
    add("--models", **texts, default=["tiny", "base"], help="presets (default: tiny,base)")
    add("--batches", **numbers, default=[1, 8, 32], help="rows a call (default: 1,8,32)")
    add("--beams", **numbers, default=[1, 4], help="beams; 1 is greedy (default: 1,4)")
    add("--starts", type=int, default=3, help="processes of each, one by one (default: 3)")
    add("--rounds", type=int, default=5, help="turns of each process in a cell (default: 5)")
    add("--engines", **texts, default=every, help="what to compare (default: %(default)s)")
    add("--run", help="a trained run folder, to translate --source with")
    add("--source", help="a text file, one sentence a line")
    options = parser.parse_args()
    if unknown := set(options.engines) - set(every):
        parser.error(f"there is no engine {', '.join(unknown)}; choose of {', '.join(every)}")
    if bool(options.run) != bool(options.source):
        parser.error("--run and --source need each other")
    progress.run_alone("decode", rows, options)


if __name__ == "__main__":
    main()
