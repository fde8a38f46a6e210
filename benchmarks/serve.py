"""The local server under load: is every answer right, how fast does it come, does memory stay?

    python benchmarks/serve.py [--export EXPORT] [--parts load,versions,leave,kill,speed,reload]

Starts `keras-transformer serve` in front of a SavedModel, and half of the clients by REST, half by
gRPC, in threads of this process. Every request carries a text of its own, and every answer is
compared with what the SavedModel gives for this text.

    load      nothing but requests
    versions  new versions appear meanwhile, and each replaces the one before
    leave     a fifth of the clients close the connection in the middle of each of their requests
    kill      kill -9 in the middle and a start on the same ports, with the package's own client
    speed     requests/s beside a loop that calls the SavedModel in this process, text by text
    reload    memory as versions come and go, without requests

EXPORT is a folder that `keras-transformer export` wrote; without it, a small model is trained and
exported first, on the text of `keras-transformer demo`, in a few minutes.
"""

import argparse
import itertools
import os
import random
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from serve_load import (
    GrpcClient,
    RestClient,
    RetryingClient,
    Server,
    apply_load,
    expected_of,
    publish_copy,
)

PARTS = ("load", "versions", "leave", "kill", "speed", "reload")
STEPS = 600
PAIRS = 20_000  # of the text that a small model is trained on
POLL = "--poll-seconds=0.2"


def main():
    """Run the parts that are asked for and print a table of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--export", type=Path, help="an exported folder")
    add("--parts", type=lambda text: text.split(","), default=PARTS, help="some of the parts")
    add("--requests", type=int, default=5000, help="in each part (default: 5000)")
    add("--clients", type=int, default=64, help="at once (default: 64)")
    add("--versions", type=int, default=5, help="that appear in `versions` (default: 5)")
    add("--rounds", type=int, default=5, help="turns of `speed` (default: 5)")
    add("--reloads", type=int, default=10, help="versions of `reload` (default: 10)")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}; choose of {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        export = options.export or _small_export(folder)
        # What new versions are published in.
        base = Path(shutil.copytree(export / "savedmodel", folder / "savedmodel"))
        from keras_transformer.export.runtime import load

        model = load(base)
        expected = expected_of(model, distinct_texts(options.requests))
        lengths = sorted(len(text.split()) for text in expected)
        print(
            f"{options.requests:,} texts of {lengths[0]} to {lengths[-1]} words, half of them up "
            f"to {lengths[len(lengths) // 2]}; {os.cpu_count()} processors"
        )
        for part in options.parts:
            print(f"\n### {part}\n", flush=True)
            globals()[f"_{part}"](base, model, expected, options)


def distinct_texts(count):
    """Make texts of one to three sentences, no two of them the same."""
    from keras_transformer.training.data import spoken_english

    rng = random.Random(1)
    sentences = (one.spoken for one in spoken_english.examples("test", 4 * count))
    texts = {}
    while len(texts) < count:
        sentence_count = rng.choices((1, 2, 3), (70, 20, 10))[0]
        texts[" ".join(itertools.islice(sentences, sentence_count))] = None
    return list(texts)


def mixed_clients(server, count):
    """Make clients, half of them for REST and half for gRPC."""
    return [(RestClient, GrpcClient)[i % 2](server) for i in range(count)]


# --- The parts ------------------------------------------------------------------------------------


def _load(base, model, expected, options):
    with Server(base) as server, _Memory(server) as memory:
        _show(_loaded(server, expected, options, memory), memory)


def _versions(base, model, expected, options):
    with Server(base, POLL) as server, _Memory(server) as memory:
        begin, after = len(server.versions()), []

        def publish():
            for count in range(1, options.versions + 1):
                publish_copy(base)
                _wait_for(server, begin + count)
                after.append(f"{server.memory():,.0f}")

        publishing = threading.Thread(target=publish, daemon=True)
        load = _loaded(server, expected, options, memory, publishing, go_on=publishing.is_alive)
        publishing.join()
        print(f"Memory in MiB after each version: {'; '.join(after)}.\n")
        _show(load, memory)


def _leave(base, model, expected, options):
    with Server(base) as server, _Memory(server) as memory:
        load = _loaded(server, expected, options, memory, leave=True)
        print(f"{len(load.left):,} requests were left in the middle, and asked again.\n")
        _show(load, memory)


def _kill(base, model, expected, options):
    with Server(base) as first:
        addresses = first.rest, first.grpc
        clients = [RetryingClient(addresses[i % 2], first.name) for i in range(options.clients)]
        second = []

        def kill():
            time.sleep(2)
            first.kill()
            second.append(Server(base, **first.ports))

        killing = threading.Thread(target=kill)
        killing.start()
        load = apply_load(clients, expected, go_on=killing.is_alive)
        killing.join()
        with second[0] as server:
            after = apply_load(mixed_clients(server, 8), _first(expected, 200))
        longest = max(load.seconds)
        print(f"The longest answer took {longest:.1f} s, the start of the new server included.")
        print(f"Once it was back: {after}.\n")
        _show(load)


def _speed(base, model, expected, options):
    texts = list(expected)
    rates, gains, shares = {}, {}, {}
    with Server(base) as server:
        apply_load(mixed_clients(server, 32), _first(expected, 1000))
        for _ in range(options.rounds):
            since = time.perf_counter()
            some = random.sample(texts, min(300, len(texts)))
            for text in some:
                model.call("serving_default", text=[text])
            loop = len(some) / (time.perf_counter() - since)
            rates.setdefault("a loop of calls", []).append(loop)
            for client in (RestClient, GrpcClient):
                for count in (1, 8, 32):
                    what = f"{client.__name__.removesuffix('Client')}, {count} clients"
                    chosen = random.sample(texts, min(options.requests, 100 + 60 * count))
                    part = {text: expected[text] for text in chosen}
                    used = server.processor_seconds()
                    load = apply_load([client(server) for _ in range(count)], part)
                    assert not load.wrong and not load.lost, str(load)
                    used = (server.processor_seconds() - used) / load.wall
                    rates.setdefault(what, []).append(load.rate)
                    gains.setdefault(what, []).append(load.rate / loop)
                    shares.setdefault(what, []).append((load.share, used))
    rows = []
    for name, values in rates.items():
        row = [name, f"{statistics.median(values):,.0f}"]
        if name in gains:
            own = gains[name]
            row.append(f"{statistics.median(own):.2f} ({min(own):.2f}-{max(own):.2f})")
            row += [f"{statistics.median(x):.0%}" for x in zip(*shares[name], strict=True)]
        rows.append(row + [""] * (5 - len(row)))
    print("Gains are medians (lowest-highest); shares are of one processor.\n")
    _table(["", "texts/s", "gain", "clients' share", "server's share"], rows)


def _reload(base, model, expected, options):
    rows = []
    with Server(base, POLL) as server:
        begin = len(server.versions())
        apply_load(mixed_clients(server, 8), _first(expected, 1000))
        rows.append(["start", f"{server.memory():,.0f}"])
        for count in range(1, options.reloads + 1):
            publish_copy(base)
            _wait_for(server, begin + count)
            rows.append([f"after {count}", f"{server.memory():,.0f}"])
    _table(["versions", "memory, MiB"], rows)


def _wait_for(server, count):
    """Wait until so many versions were loaded, and the last but one has gone."""
    while len(server.versions()) < count:
        time.sleep(0.1)
    time.sleep(1)


def _loaded(server, expected, options, memory, beside=None, leave=False, go_on=lambda: False):
    # Kernels are made, and kept, for every new shape; memory is to be looked at after that.
    apply_load(mixed_clients(server, options.clients), expected)
    clients = mixed_clients(server, options.clients)
    # Of REST and gRPC alike, as 5 is odd.
    leaving = clients[::5] if leave else ()
    memory.begin()
    if beside:
        beside.start()
    return apply_load(clients, expected, leaving, go_on)


class _Memory:
    """Looks at a server's memory all the time."""

    def __init__(self, server):
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.seen = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._done.set()
        self._thread.join()

    def begin(self):
        self.seen.clear()
        self.seen.append(self._server.memory())

    def _look(self):
        while not self._done.wait(0.2):
            self.seen.append(self._server.memory())


def _show(load, memory=None):
    row = [f"{len(load.seconds):,}", len(load.lost), len(load.wrong)]
    row += [f"{load.percentile(50):.0f}", f"{load.percentile(99):.0f}", f"{load.rate:,.0f}"]
    row += [f"{load.share:.0%}"]
    head = ["answers", "lost", "wrong", "p50, ms", "p99, ms", "answers/s", "clients' share"]
    if memory:
        seen = memory.seen
        head += ["MiB at start", "half", "end", "most"]
        row += [f"{x:,.0f}" for x in (seen[0], seen[len(seen) // 2], seen[-1], max(seen))]
    _table(head, [row])
    for problem in (load.lost + load.wrong)[:5]:
        print(f"\n{problem}")


def _table(head, rows):
    for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows):
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def _first(expected, count):
    return dict(itertools.islice(expected.items(), count))


def _small_export(folder):
    """Train and export a model of the demo's kind, for fewer steps."""
    import io

    from rich.console import Console

    from keras_transformer.cli import demo
    from keras_transformer.export import export_run
    from keras_transformer.training.data import spoken_english
    from keras_transformer.training.data.corpora import ParallelFiles
    from keras_transformer.training.new_run import new_run
    from keras_transformer.training.trainer import train

    sizes = {**demo.SIZES, "train": PAIRS}
    spoken_english.write_corpus(folder, sizes)
    files = {x: ParallelFiles(folder / f"{x}.spoken", folder / f"{x}.written") for x in sizes}
    console = Console(file=io.StringIO())
    run = new_run(
        folder / "run",
        files["train"],
        files["validation"],
        steps=STEPS,
        vocabulary_size=demo.VOCABULARY_SIZE,
        split_digits=True,
        model=demo.MODEL,
        training={**demo.TRAINING, "validate_every": STEPS, "checkpoint_every": STEPS},
        console=console,
    )
    train(run, console)
    export_run(run, folder / "export", console, name="demo", precisions=["float32"])
    return folder / "export"


if __name__ == "__main__":
    main()
