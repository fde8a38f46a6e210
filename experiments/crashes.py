"""Kill training at random moments, go on, and compare with a run that was left alone.

    python experiments/crashes.py [--kills 20] [--steps 300]

Each time `kill -9` hits somewhere between the start of the process and its end; `train --resume`
goes on. The final weights, optimizer and random state must have the same bits as those of the run
that nothing happened to. The same is done with a newest checkpoint that was cut off, and with two
workers of which one is killed and comes back.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

WORDS = ["red", "blue", "green", "grey", "cat", "dog", "house", "tree", "sun", "naïve", "café."]
SETTINGS = [
    *("--vocab-size", "120", "--num-layers", "2", "--num-heads", "2", "--d-model", "64"),
    *("--d-ff", "128", "--max-length", "24", "--batch-tokens", "768"),
    *("--learning-rate", "5e-3", "--warmup", "50", "--validate-every", "100"),
    *("--checkpoint-every", "10", "--ema", "0.9", "--token-dropout", "0.05"),
]


def main():
    """Run all three experiments and exit with 1 if any result differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_text()
        same = [
            *kill_and_resume(options.kills, options.steps, rng),
            truncate(),
            kill_a_worker(options.steps),
        ]
    print(f"bit-identical: {sum(same)} of {len(same)}")
    sys.exit(0 if all(same) else 1)


def write_text():
    """Write parallel text: words, and the same in capitals."""
    rng = random.Random(0)
    for name, count in (("train", 800), ("valid", 60)):
        lines = [" ".join(rng.choices(WORDS, k=rng.randint(1, 5))) for _ in range(count)]
        Path(f"{name}.small").write_text("".join(f"{x}\n" for x in lines), "utf-8")
        Path(f"{name}.capital").write_text("".join(f"{x.upper()}\n" for x in lines), "utf-8")


def new(output, steps):
    """Return the arguments of a new run."""
    files = "--source train.small --target train.capital "
    files += "--valid-source valid.small --valid-target valid.capital"
    return [*files.split(), "--output", output, "--steps", str(steps), *SETTINGS]


def start(arguments, log, **environment):
    """Start `keras-transformer train`."""
    return subprocess.Popen(
        [sys.executable, "-m", "keras_transformer", "train", *arguments],
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
    )


def run(arguments, log):
    """Train to the end."""
    process = start(arguments, log)
    if process.wait():
        sys.exit(f"training failed; its last words:\n{Path(log.name).read_text()[-2000:]}")


def state(folder):
    """Return everything that the last checkpoint and the best weights hold."""
    newest = sorted(Path(folder, "checkpoints").glob("step-*"))[-1]
    found = {"step": newest.name, "state": json.loads((newest / "state.json").read_text())}
    with np.load(newest / "variables.npz") as arrays:
        found |= {name: array.tobytes() for name, array in arrays.items()}
    for path in (newest / "model.weights.h5", Path(folder, "best.weights.h5")):
        with h5py.File(path) as file:
            file.visititems(
                lambda name, x, file=path.name: (
                    found.update({f"{file}/{name}": x[()].tobytes()})
                    if isinstance(x, h5py.Dataset)
                    else None
                )
            )
    return found


def differences(folder, other):
    """Return the names of what differs between two runs."""
    one, two = state(folder), state(other)
    return [name for name in sorted(one.keys() | two.keys()) if one.get(name) != two.get(name)]


def tell(name, detail, odd):
    """Print a result, and return whether nothing differs."""
    print(f"{name:26}{detail:48}{'same bits' if not odd else f'differs: {odd[:3]}'}", flush=True)
    return not odd


def kill_and_resume(kills, steps, rng):
    """Kill a run at random moments; yield whether it ended like the undisturbed one."""
    with Path("log").open("w") as log:
        begin = time.monotonic()
        run(new("whole", steps), log)
        duration = time.monotonic() - begin
        print(f"undisturbed: {steps} steps in {duration:.0f} s")
        for i in range(kills):
            process = start(new("run", steps), log)
            moment = rng.uniform(0, duration)
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            done = [p.name for p in sorted(Path("run/checkpoints").glob("step-*"))][-1:]
            if Path("run/config.json").is_file():
                if done != [f"step-{steps:08d}"]:
                    run(["--resume", "run"], log)
            else:
                run(new("run", steps), log)
            left = [str(p) for p in Path("run").rglob(".writing-*")]
            detail = f"killed after {moment:.1f} s, at {done[0] if done else 'no checkpoint'}"
            yield tell(f"kill {i + 1}", detail, differences("whole", "run") + left)
            shutil.rmtree("run")


def truncate():
    """Cut off the newest checkpoint of the undisturbed run, and make its last steps again."""
    shutil.copytree("whole", "cut")
    newest = sorted(Path("cut/checkpoints").glob("step-*"))[-1]
    file = newest / "model.weights.h5"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with Path("log").open("w") as log:
        run(["--resume", "cut"], log)
    said = "is damaged" in Path("log").read_text()
    odd = differences("whole", "cut") + ([] if said else ["it did not say so"])
    return tell("newest cut off", "went on from the one before", odd)


def kill_a_worker(steps):
    """Kill one of two workers, start it again, and compare with two that nothing happened to."""
    results = []
    for name, kill in (("two", False), ("one-died", True)):
        cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
        settings = [
            json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})
            for i in range(2)
        ]
        arguments = [*new(name, steps), "--strategy", "multiworker"]
        logs = [Path(f"{name}-{i}.log").open("w") for i in range(2)]  # noqa: SIM115
        workers = [
            start(arguments, log, TF_CONFIG=setting)
            for log, setting in zip(logs, settings, strict=True)
        ]
        if kill:
            third = f"step-{steps // 3 // 10 * 10:08d}"
            while not Path(name, "checkpoints", third).exists():
                time.sleep(0.05)
                if workers[0].poll() is not None:
                    sys.exit(f"the first worker ended:\n{Path(logs[0].name).read_text()[-2000:]}")
            workers[1].send_signal(signal.SIGKILL)
            workers[1].wait()
            workers[1] = start(
                ["--resume", name, "--strategy", "multiworker"], logs[1], TF_CONFIG=settings[1]
            )
        for worker, log in zip(workers, logs, strict=True):
            if worker.wait(timeout=600):
                sys.exit(f"a worker failed:\n{Path(log.name).read_text()[-3000:]}")
        results.append(name)
    joined = "Starting again" in Path("one-died-0.log").read_text()
    odd = differences(*results) + ([] if joined else ["the other worker noticed nothing"])
    return tell("one worker of two killed", f"at {third}, and started again", odd)


def free_ports(count):
    """Return ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


if __name__ == "__main__":
    main()
