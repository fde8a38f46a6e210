"""How fast does the input pipeline deliver batches, and how fast does training use them up?

    python benchmarks/input.py [SOURCE TARGET]

SOURCE and TARGET are parallel text files or patterns; without them it takes generated text. Both
sides of the comparison run in this process, in turns, and each figure is the median of the runs:
the pipeline of training from text on disk, and `fit` of the tiny preset on batches in memory.

With --memory it prints the peak of memory of two processes instead: one makes batches of the text,
the other of ten times the text. Only a buffer of lines is kept, so they hardly differ.
"""

import argparse
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PIECES = 8000
RUNS = 5
BATCHES_IN_A_FIT = 12
GENERATED_PAIRS = 50_000
# More than are ever in the buffer of shuffled lines, so that both texts fill it.
PAIRS_FOR_MEMORY = 150_000

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main():
    """Print both rates and their ratio, or peaks of memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help="source and target")
    parser.add_argument("--memory", action="store_true", help="measure memory, not speed")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    options = parser.parse_args()
    if len(options.files) not in (0, 2):
        parser.error("give the source and the target, or neither")
    with tempfile.TemporaryDirectory() as folder:
        pairs = PAIRS_FOR_MEMORY if options.memory else GENERATED_PAIRS
        files = options.files or _generate(Path(folder), pairs)
        if options.memory:
            _print_memory(Path(folder), files)
        else:
            _print_speed(files, options.batch_tokens)


def _generate(folder, pairs):
    from keras_transformer.training.data import spoken_english

    names = [str(folder / "text.spoken"), str(folder / "text.written")]
    with open(names[0], "w") as source, open(names[1], "w") as target:
        for example in spoken_english.examples("train", pairs):
            source.write(f"{example.spoken}\n")
            target.write(f"{example.written}\n")
    return names


def _print_speed(files, batch_tokens):
    import tensorflow as tf

    from keras_transformer.models import Transformer, TransformerConfig
    from keras_transformer.text import WordPieceTokenizer, learn_vocabulary
    from keras_transformer.training.config import TrainingConfig
    from keras_transformer.training.data.batching import Batching, untuned
    from keras_transformer.training.data.corpora import make_corpus
    from keras_transformer.training.data.parallel_text import make_training_batches, measure
    from keras_transformer.training.trainer import compile_model

    corpus = make_corpus(files[:1], files[1:])
    lines = itertools.islice(corpus.lines(), 200_000)
    tokenizer = WordPieceTokenizer(learn_vocabulary(lines, PIECES))
    batching = Batching(batch_tokens, 256)
    size = measure(corpus, tokenizer, batching)
    print(
        f"{size.pairs:,} pairs, {size.target_tokens:,} target tokens in {size.batches:,} batches "
        f"of {batch_tokens:,} tokens, {size.padding:.0%} padding, {os.cpu_count()} processors"
    )
    batches = make_training_batches(corpus, tokenizer, batching, 1, size)
    in_memory = list(batches.take(BATCHES_IN_A_FIT))
    cached = untuned(
        tf.data.Dataset.from_generator(
            lambda: itertools.cycle(in_memory), output_signature=batches.element_spec
        )
    )
    model = Transformer(TransformerConfig.preset("tiny", PIECES))
    compile_model(model, TrainingConfig("", "", "", "", 1000, 1e-3, 100))

    def deliver():
        return sum(_tokens(labels) for _, labels in batches.take(size.batches))

    def fit():
        model.fit(cached, steps_per_epoch=BATCHES_IN_A_FIT, shuffle=False, verbose=0)
        return sum(_tokens(labels) for _, labels in in_memory)

    fit()  # it traces the step
    rates = [[_rate(deliver), _rate(fit)] for _ in range(RUNS)]
    delivered, used = (statistics.median(rate) for rate in zip(*rates, strict=True))
    ratio = statistics.median(one / other for one, other in rates)
    print(f"delivered from disk        {delivered:12,.0f} target tokens/s")
    print(f"used by fit, preset tiny   {used:12,.0f} target tokens/s")
    print(f"ratio                      {ratio:12.1f}")


def _tokens(labels):
    return int((labels.numpy() != 0).sum())


def _rate(function):
    begin = time.perf_counter()
    tokens = function()
    return tokens / (time.perf_counter() - begin)


# Reads a whole epoch, and prints the most memory that the process ever had, in MiB.
CHILD = """
import re, sys
from pathlib import Path
from keras_transformer.text import WordPieceTokenizer
from keras_transformer.training.data.batching import Batching
from keras_transformer.training.data.parallel_text import measure
from keras_transformer.training.data.parallel_text import make_training_batches
from keras_transformer.training.data.corpora import make_corpus

source, target, vocabulary = sys.argv[1:]
corpus, batching = make_corpus([source], [target]), Batching(4096, 256)
tokenizer = WordPieceTokenizer.load(vocabulary)
corpus.check()
size = measure(corpus, tokenizer, batching)
for _ in make_training_batches(corpus, tokenizer, batching, 1, size).take(size.batches):
    pass
peak = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
print(f"{size.pairs} {peak / 1024:.0f}")
"""


def _print_memory(folder, files):
    from keras_transformer.text import WordPieceTokenizer, learn_vocabulary
    from keras_transformer.training.data.corpora import make_corpus

    lines = itertools.islice(make_corpus(files[:1], files[1:]).lines(), 100_000)
    vocabulary = folder / "vocab.txt"
    WordPieceTokenizer(learn_vocabulary(lines, PIECES)).save(vocabulary)
    for times in (1, 10):
        patterns = []
        for side, name in enumerate(files):
            names = [folder / f"{times}-{side}-{i}{Path(name).suffix}" for i in range(times)]
            for link in names:
                link.symlink_to(Path(name).absolute())
            patterns.append(str(folder / f"{times}-{side}-*"))
        command = [sys.executable, "-c", CHILD, *patterns, str(vocabulary)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        pairs, peak = re.search(r"(\d+) (\d+)\s*$", output).groups()
        print(f"{int(pairs):12,} pairs: at most {int(peak):,} MiB")


if __name__ == "__main__":
    main()
