"""Which score makes the better vocabulary: frequency or likelihood?

Trains the same model for the same number of steps on the same text with a vocabulary of each kind,
and compares the validation loss a character, which, unlike that a token, does not depend on how the
text is cut.

    python benchmarks/vocabulary_score.py DIR --steps 600

DIR holds train.en, train.de, val.en and val.de, for example Multi30k's.
"""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from keras_transformer.files import read_lines
from keras_transformer.text import learn_vocabulary
from keras_transformer.training.data.corpora import ParallelFiles
from keras_transformer.training.data.parallel_text import make_batches, measure
from keras_transformer.training.evaluation.evaluator import Evaluator
from keras_transformer.training.new_run import new_run
from keras_transformer.training.trainer import train

VARIANTS = [("frequency", 2), ("likelihood", 2), ("likelihood", 10), ("likelihood", 30)]


def main():
    """Print one line a variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--size", type=int, default=8000)
    options = parser.parse_args()
    data = options.directory
    files = ParallelFiles(data / "train.en", data / "train.de")
    valid = ParallelFiles(data / "val.en", data / "val.de")
    characters = sum(len(line) for line in read_lines(valid.target))
    for score, min_frequency in VARIANTS:
        pieces = learn_vocabulary(
            files.lines(), options.size, score=score, min_frequency=min_frequency
        )
        with tempfile.TemporaryDirectory() as scratch:
            vocabulary = Path(scratch) / "vocab.txt"
            vocabulary.write_text("".join(f"{p}\n" for p in pieces), "utf-8")
            run = new_run(
                Path(scratch) / "run",
                files,
                valid,
                steps=options.steps,
                vocabulary=vocabulary,
                training={"validate_every": options.steps, "warmup_steps": options.steps // 4},
                console=Console(stderr=True),
            )
            train(run, Console(stderr=True))
            batching = run.training_config().batching
            tokenizer = run.tokenizer()
            loss = Evaluator(run.load_model())(make_batches(valid, tokenizer, batching))["loss"]
            size = measure(valid, tokenizer, batching)
        print(
            f"{score:10} min_frequency {min_frequency:2}: {len(pieces):,} pieces, "
            f"{size.target_tokens:,} validation tokens, left out {size.too_long}, "
            f"loss a token {loss:.4f}, a character {loss * size.target_tokens / characters:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
