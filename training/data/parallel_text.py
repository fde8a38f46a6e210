"""From parallel text files to batches: read, tokenise, filter, bucket by length, pad.

    text files -> checked line by line -> ids -> buckets of similar length -> (inputs, labels)

Every step after the check is a `tf.data` transformation, and lines are shuffled in a buffer of a
fixed size, so memory does not grow with the corpus.
"""

import numpy as np

from keras_transformer._tensorflow import tf
from keras_transformer.text import WordPieceTokenizer
from keras_transformer.training.data.augmentation import PieceDropout
from keras_transformer.training.data.augmentation import token_dropout as drop_tokens
from keras_transformer.training.data.batching import (
    ALONE,
    Batching,
    Worker,
    bucketed,
    text_lines,
    untuned,
)
from keras_transformer.training.data.corpora import Corpus
from keras_transformer.training.data.corpus_size import CorpusSize
from keras_transformer.training.data.data_service import on_data_service

SHUFFLE_LINES = 100_000
GOLDEN_RATIO = 0.6180339887498949


def make_batches(
    corpus: Corpus, tokenizer: WordPieceTokenizer, batching: Batching
) -> tf.data.Dataset:
    """Make batches of the whole corpus, once, in the order of the files.

    Pairs of similar length share a batch, and a batch holds as many of them as fit into its tokens.
    Teacher forcing: the decoder's input is the target shifted right by one, so that it sees the
    true tokens before the one that it is to predict.

    Args:
        corpus: The parallel text.
        tokenizer: Cuts text into ids.
        batching: Size and length of batches.

    Returns:
        Data set of `({"source_ids": (B, S), "target_ids": (B, T)}, labels (B, T))`, int32 and
        padded with 0: source and end token, begin token and target, target and end token.
    """
    return untuned(bucketed(text_lines(corpus.pairs), tokenizer, batching).prefetch(2))


def make_training_batches(
    corpus: Corpus,
    tokenizer: WordPieceTokenizer,
    batching: Batching,
    seed: int,
    size: CorpusSize,
    first_batch: int = 0,
    *,
    worker: Worker = ALONE,
    token_dropout: float = 0.0,
    piece_dropout: float = 0.0,
    data_service: str | None = None,
) -> tf.data.Dataset:
    """Make batches without end, shuffled anew in each epoch.

    The parts of a mixture with weights take turns so that each gives its share of the pairs: a
    batch is of one part, and each part has epochs of its own. Like this it is known how far each
    part has come at any batch, and no run that goes on has to read more than a part of an epoch.

    Args:
        corpus: The parallel text.
        tokenizer: Cuts text into ids.
        batching: Size and length of batches.
        seed: Decides the order; the same seed always gives the same batches.
        size: What `measure` gave for this corpus, batching and worker.
        first_batch: Number of batches to leave out, so that a run goes on where it stopped.
        worker: Its index, and the number of workers that share the corpus. Each gets files of its
            own, or lines of its own where there are fewer files than workers.
        token_dropout: Probability that a token of the source is replaced by the unknown token.
        piece_dropout: Probability that a piece is missing when text is cut, in source and target.
        data_service: Address of a tf.data service that makes the batches, such as
            `grpc://host:5050`; `training.data_service` tells what is lost.

    Returns:
        Data set as `make_batches` returns.
    """
    groups, parts = corpus.groups, size.parts or (size,)
    thinned = PieceDropout(tokenizer, piece_dropout, seed) if piece_dropout else None
    turn = _turns(corpus.shares, parts, seed, worker)
    done = _count_turns(turn, len(groups), first_batch)

    def stream(files, epoch_batches, first):
        first_epoch, skipped = divmod(first, epoch_batches)

        def epoch(number):
            tf.random.set_seed(1)  # of this graph: the order must not depend on the global seed
            # A seed for each epoch, so that any of them can begin without those before it.
            epoch_seed = tf.random.stateless_uniform(
                [], tf.stack([tf.constant(seed, tf.int64), number]), 0, 1 << 62, tf.int64
            )
            lines = text_lines(files, worker, epoch_seed)
            lines = lines.shuffle(SHUFFLE_LINES // len(groups), epoch_seed)
            skip = tf.where(tf.equal(number, first_epoch), tf.constant(skipped, tf.int64), 0)
            cut_anew = thinned and (lambda i, text: thinned.tokenize(text, (epoch_seed, i)))
            return bucketed(lines, tokenizer, batching, cut_anew).skip(skip)

        return tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch)

    streams = [
        stream(files, part.batches, first)
        for files, part, first in zip(groups, parts, done, strict=True)
    ]
    batches = streams[0]
    if len(streams) > 1:
        turns = tf.data.Dataset.range(first_batch, tf.int64.max).map(turn)
        batches = tf.data.Dataset.choose_from_datasets(streams, turns)
    if data_service is not None:
        batches = on_data_service(batches, data_service)
    if token_dropout:
        batches = _with_token_dropout(batches, token_dropout, seed, worker, first_batch)
    return untuned(batches.prefetch(8))


def split_batches(
    batches: tf.data.Dataset, parts: int, kept: range | None = None
) -> tf.data.Dataset:
    """Cut each batch into smaller ones, for the replicas that share it.

    Args:
        batches: Data set of batches, of any structure, with B rows.
        parts: How many of each. Part i has the rows from i * B // parts to (i + 1) * B // parts:
            where B is less than `parts`, some have none.
        kept: Which parts to keep, without gaps; None for all.

    Returns:
        Data set with an element for each part kept of each of `batches`, in order.
    """
    kept = range(parts) if kept is None else kept

    def split(*batch):
        rows = tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0]

        def part(i):
            begin, end = i * rows // parts, (i + 1) * rows // parts
            return tf.nest.map_structure(lambda x: x[begin:end], batch)

        return tf.data.Dataset.range(kept.start, kept.stop).map(part)

    return batches.flat_map(split)


def _turns(shares, parts, seed, worker):
    """Return a function from the number of a batch to the group that it is taken from.

    Multiples of the golden ratio, without their whole parts, fill the unit interval more evenly
    than chance, so each group comes as regularly as its share allows. Workers begin at different
    places, so that together they have all groups at any time.
    """
    # Of a group whose batches hold fewer pairs, more batches are taken.
    batches = np.array([s * p.batches / p.pairs for s, p in zip(shares, parts, strict=True)])
    bounds = np.cumsum(batches)[:-1] / batches.sum()
    index, count = worker
    begin = np.random.default_rng(seed).random() + index / count

    def turn(number):
        place = (begin + tf.cast(number, tf.float64) * GOLDEN_RATIO) % 1
        return tf.reduce_sum(tf.cast(place[..., tf.newaxis] >= bounds, tf.int64), -1)

    return turn


def _count_turns(turn, groups, first_batch):
    """Count how many of the batches before the first are of each group."""
    counts = np.zeros(groups, int)
    for numbers in tf.data.Dataset.range(first_batch).batch(1 << 16):
        counts += np.bincount(turn(numbers), minlength=groups)
    return counts.tolist()


def _with_token_dropout(batches, rate, seed, worker, first_batch):
    def drop(number, batch):
        inputs, labels = batch
        number = number * worker[1] + worker[0]  # no two workers drop the same
        ids = drop_tokens(inputs["source_ids"], rate, (tf.constant(seed, tf.int64), number))
        return {**inputs, "source_ids": ids}, labels

    return batches.enumerate(first_batch).map(drop)
