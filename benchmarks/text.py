"""WordPiece beside Hugging Face's tokenizers (Rust): learning a vocabulary, and cutting text.

    python benchmarks/text.py [FILE ...]

Without files it takes generated text. Both sides run in this process on the same lines and the same
number of threads, in turns; each figure is the median of the pairs' ratios.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

PIECES = 8000
RUNS = 7


def main():
    """Print a Markdown table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*")
    options = parser.parse_args()
    os.environ.setdefault("RAYON_NUM_THREADS", str(os.cpu_count()))
    try:
        import tokenizers  # noqa: F401
    except ImportError:
        sys.exit("The peer is missing: pip install 'keras-transformer[bench]'")

    from keras_transformer.training import spoken_english
    from keras_transformer.training.text_files import read_lines

    if options.files:
        lines = [line for path in options.files for line in read_lines(path)]
    else:
        lines = [e.written for e in spoken_english.examples("train", 50_000)]
    print(f"{len(lines):,} lines, {sum(map(len, lines)):,} characters, {os.cpu_count()} threads\n")
    print("| task | keras_transformer | tokenizers | their time / ours, median |")
    print("|---|---|---|---|")
    vocabulary = _compare("learn", _learn_ours(lines), _learn_theirs(lines), runs=3)
    _compare("cut into ids", _cut_ours(lines, vocabulary), _cut_theirs(lines, vocabulary))


def _compare(name, ours, theirs, runs=RUNS):
    result = ours()
    theirs()
    times = []
    for _ in range(runs):
        pair = []
        for function in (ours, theirs):
            begin = time.perf_counter()
            function()
            pair.append(time.perf_counter() - begin)
        times.append(pair)
    our_time, their_time = (statistics.median(t) for t in zip(*times, strict=True))
    ratio = statistics.median(b / a for a, b in times)
    print(f"| {name} | {our_time:.2f} s | {their_time:.2f} s | {ratio:.2f} |")
    return result


def _learn_ours(lines):
    from keras_transformer.text import learn_vocabulary

    return lambda: learn_vocabulary(lines, PIECES)


def _learn_theirs(lines):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def learn():
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
    from tokenizers import Tokenizer, models, pre_tokenizers

    ids = {piece: i for i, piece in enumerate(vocabulary)}
    model = models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=1_000_000)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return lambda: [e.ids for e in tokenizer.encode_batch(lines, add_special_tokens=False)]


if __name__ == "__main__":
    main()
