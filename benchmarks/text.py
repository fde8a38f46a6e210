"""WordPiece beside Hugging Face's tokenizers (Rust): learning a vocabulary, and cutting text.

    python benchmarks/text.py [FILE ...]

Without files it takes generated text. Both sides run in this process on the same lines and the same
number of threads, in turns; each figure is the median of the pairs' ratios.
"""

import argparse
import functools
import os
import time
from pathlib import Path

import progress
from results import beside

PIECES = 8000
OURS, PEER = "keras_transformer", "tokenizers"
QUICK = {"runs": 3, "generated": 20_000}


def rows(shown, files=(), runs=7, generated=50_000):
    """Compare both sides.

    Args:
        shown: A `Progress`.
        files: Text files; generated text if there are none.
        runs: Pairs of turns.
        generated: Lines of the generated text.

    Returns:
        A list of `results.Row`.
    """
    from keras_transformer.files import read_lines
    from keras_transformer.text import learn_vocabulary
    from keras_transformer.training.data import spoken_english

    os.environ.setdefault("RAYON_NUM_THREADS", str(os.cpu_count()))
    if files:
        lines = [line for path in files for line in read_lines(path)]
    else:
        lines = [e.written for e in spoken_english.examples("train", generated)]
    vocabulary = learn_vocabulary(lines, PIECES)
    tasks = {
        f"learn {PIECES:,} pieces": (_learn_ours(lines), _learn_theirs(lines)),
        "cut into ids": (_cut_ours(lines, vocabulary), _cut_theirs(lines, vocabulary)),
    }
    found = []
    with shown.subject("text", len(tasks) * runs) as step:
        for name, functions in tasks.items():
            measured = _in_turns(functions, runs, lambda now, name=name: step(f"{name}: {now}"))
            setting = f"{name}, {len(lines):,} lines, {os.cpu_count()} threads"
            found += beside("tokenising", setting, "s", [OURS], measured, less=True)
    return found


def _in_turns(functions, runs, step):
    """Time both sides in turns, after one call of each that is not timed."""
    measured = {OURS: [], PEER: []}
    for run in range(runs):
        step(f"turn {run + 1} of {runs}")
        for name, function in zip(measured, functions, strict=True):
            if isinstance(measured[name], str):
                continue
            try:
                if not run:
                    function()
                begin = time.perf_counter()
                function()
                measured[name].append(time.perf_counter() - begin)
            except ImportError as error:
                measured[name] = f"{error}"
    return measured


def _learn_ours(lines):
    from keras_transformer.text import learn_vocabulary

    return lambda: learn_vocabulary(lines, PIECES)


def _learn_theirs(lines):
    def learn():
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordPieceTrainer(vocab_size=PIECES, show_progress=False)
        tokenizer.train_from_iterator(lines, trainer)

    return learn


def _cut_ours(lines, vocabulary):
    import tensorflow as tf

    from keras_transformer.text import WordPieceTokenizer

    tokenizer = WordPieceTokenizer(vocabulary)
    dataset = tf.data.Dataset.from_tensor_slices(tf.constant(lines)).batch(256)
    dataset = dataset.map(tokenizer.tokenize, num_parallel_calls=os.cpu_count())

    def cut():
        for _ in dataset:
            pass

    return cut


def _cut_theirs(lines, vocabulary):
    @functools.cache
    def tokenizer():
        from tokenizers import Tokenizer, models, pre_tokenizers

        ids = {piece: i for i, piece in enumerate(vocabulary)}
        model = models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=1_000_000)
        made = Tokenizer(model)
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return made

    return lambda: [e.ids for e in tokenizer().encode_batch(lines, add_special_tokens=False)]


def main():
    """Print a Markdown table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--runs", type=int, default=7, help="turns of each side")
    progress.run_alone("text", rows, parser.parse_args())


if __name__ == "__main__":
    main()
