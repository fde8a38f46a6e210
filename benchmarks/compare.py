"""Every comparison with a peer, as one page of Markdown with a summary on top.

    python benchmarks/compare.py [--quick] [--only decode,train] [--output build/bench.md]

A peer that is not installed, or can't do something, is in the tables as missing, with the reason.
A benchmark that fails, or one of ours that is missing, is named on top, and the exit status is 1.
Progress is on standard error; SHOW=1 also shows what the contenders say there.
"""

import argparse
import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import decode
import embeddings
import footprint
import results
import text
import train
from progress import Progress

# The last two load TensorFlow into this process, and would disturb the others.
BENCHMARKS = {
    "footprint": footprint,
    "decode": decode,
    "embeddings": embeddings,
    "train": train,
    "text": text,
}
PACKAGES = (
    "tensorflow",
    "tensorflow-text",
    "keras",
    "ai-edge-litert",
    "ctranslate2",
    "onnxruntime",
    "torch",
    "transformers",
    "keras-hub",
    "tokenizers",
)


def main(arguments=None):
    """Run what is asked for, print the page and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small models only, fewer turns and fewer settings")
    names = {"type": lambda value: value.split(","), "default": list(BENCHMARKS)}
    add("--only", **names, help=f"some of {','.join(BENCHMARKS)}")
    add("--output", type=Path, help="file to write the page to as well")
    options = parser.parse_args(arguments)
    if unknown := set(options.only) - set(BENCHMARKS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; choose of {', '.join(BENCHMARKS)}")
    chosen = {name: module for name, module in BENCHMARKS.items() if name in options.only}
    with Progress(chosen) as shown:
        rows, failed = run(chosen, options.quick, shown)
    failed += results.lacking(rows)
    page = "\n\n".join([environment(), *failed, results.report(rows)])
    print(page)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(f"{page}\n", "utf-8")
    return 1 if failed else 0


def run(benchmarks, quick, shown):
    """Run benchmarks, and go on if one of them fails.

    Returns:
        All rows, and a line for each benchmark that failed.
    """
    rows, failed = [], []
    for name, module in benchmarks.items():
        try:
            rows += module.rows(shown, **(module.QUICK if quick else {}))
        except Exception as error:  # what the others take an hour to find is not to be lost
            failed.append(f"{name} failed: {error!r}; SHOW=1 may show why.")
            shown.say(failed[-1])
    return rows, failed


def environment():
    """Say on what everything ran."""
    python = f"{os.cpu_count()} processors, Python {platform.python_version()}"
    return ", ".join([python, *(f"{name} {_version(name)}" for name in PACKAGES)]) + "."


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


if __name__ == "__main__":
    sys.exit(main())
