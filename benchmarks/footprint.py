"""Start-up, size and peak memory, beside CTranslate2 and transformers' MarianMTModel.

    python benchmarks/footprint.py [--models tiny,base] [--batch 32] [--starts 5]

The same random weights in every form, ours written by what `keras-transformer export` runs. Every
contender is a fresh process; they take turns. LiteRT and CTranslate2 have one thread, as a second
gains nothing for one sentence, and the others two. Start-up is the time from the start of the
process to its first output: imports, loading, one sentence to 32 tokens. Memory is the peak of a
process (VmHWM) that has then translated a batch. What is in float32 has to write what our model
writes.

`savedmodel`, `run folder` and `tflite` take text and give text; `tflite-ids` and the peers take and
give ids. `marian` in the table of sizes is the folder with transformers' safetensors.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import footprint_engines as engines
import footprint_models as forms
import progress
from contenders import Contender, in_turn
from results import Missing, beside

QUICK = {"models": ["tiny"], "starts": 3}


def rows(shown, models=("tiny", "base"), batch=32, starts=5):
    """Compare the contenders on every model.

    Args:
        shown: A `Progress`.
        models: Presets.
        batch: Sentences in the batch whose memory is measured.
        starts: Processes of each contender.

    Returns:
        A list of `results.Row`.
    """
    found = []
    names = list(engines.ENGINES)
    with shown.subject("footprint", len(models) * (1 + starts * len(names))) as step:
        for model in models:
            with tempfile.TemporaryDirectory() as folder:
                step(f"{model}: exporting")
                _prepare(folder, model, batch)
                seconds, peaks = ({name: [] for name in names} for _ in range(2))
                for turn in range(starts):
                    for name in in_turn(names, turn):
                        step(f"{model}, start {turn + 1} of {starts}: {name}")
                        _start(name, folder, seconds, peaks)
                sizes = {name: _size(Path(folder), name) for name in forms.FILES}
            memory = f"{model}, batch {batch}"
            for subject, setting, unit, measured in (
                ("start-up", model, "s", seconds),
                ("size", model, "MB", sizes),
                ("peak memory", memory, "MB", peaks),
            ):
                found += beside(subject, setting, unit, forms.OURS, measured, less=True)
    return found


def _prepare(folder, model, batch):
    subprocess.run(
        [sys.executable, forms.__file__, folder, model, str(batch)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("SHOW") else subprocess.DEVNULL,
    )


def _start(name, folder, seconds, peaks):
    """Start a contender, and note how long it took and the memory that it needed."""
    begin = time.perf_counter()
    contender = Contender(name, engines.__file__, name, folder)
    said = contender.wait()
    taken = time.perf_counter() - begin
    _note(seconds, name, said.get("missing") or taken)
    answer = contender.ask()
    _note(peaks, name, answer.get("missing") or answer["peak"])
    contender.close()


def _note(measured, name, value):
    """Add a figure, unless one is missing: then all of them are."""
    if isinstance(value, str):
        measured[name] = value
    elif not isinstance(measured[name], str):
        measured[name].append(value)


def _size(folder, name):
    try:
        path = forms.path_of(folder, name)
    except Missing as why:
        return str(why)
    files = [path] if path.is_file() else path.rglob("*")
    return [sum(file.stat().st_size for file in files if file.is_file()) / 1e6]


def main():
    """Run all contenders and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    models = {"type": lambda text: text.split(","), "default": ["tiny", "base"]}
    add("--models", **models, help="presets (default: tiny,base)")
    add("--batch", type=int, default=32, help="sentences in the batch (default: 32)")
    add("--starts", type=int, default=5, help="processes of each contender (default: 5)")
    progress.run_alone("footprint", rows, parser.parse_args())


if __name__ == "__main__":
    main()
