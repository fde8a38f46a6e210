"""From records to batches, for any task: read, featurise, filter, bucket by length, pad.

    records -> strings, 256 at once -> featurize -> buckets of similar length -> (inputs, labels)

What a task makes of its strings is one function, `featurize`. Examples are shuffled in a buffer of
a fixed size, so memory does not grow with the data.

Shapes: N examples read at once, B batch, S length.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.models.config import PADDING_ID
from keras_transformer.training.data.batching import (
    ALONE,
    LINES_AT_ONCE,
    Batching,
    Worker,
    untuned,
)
from keras_transformer.training.data.records import RecordSource

SHUFFLE_EXAMPLES = 100_000
NO_LABEL = -1

# Columns by name, strings (N,) -> inputs by name and labels, ragged or dense, N rows each.
Featurize = Callable[[dict[str, Any]], tuple[dict[str, Any], Any]]
# Inputs, labels and a seed of two integers -> inputs and labels.
Corrupt = Callable[[dict[str, Any], Any, Any], tuple[dict[str, Any], Any]]


@dataclasses.dataclass(frozen=True)
class ExampleSize:
    """The size of some records, counted before training.

    Args:
        examples: Examples that are used.
        too_long: Examples left out because they are longer than `max_length`.
        empty: Examples left out because a column is blank, or has no tokens.
        tokens: Tokens of the examples used, of all inputs that decide the length.
        batches: Batches in one epoch.
        labels: How often each label occurs, where there are labels.
    """

    examples: int
    too_long: int
    empty: int
    tokens: int
    batches: int
    labels: dict[str, int] = dataclasses.field(default_factory=dict)


def make_example_batches(
    records: RecordSource,
    featurize: Featurize,
    batching: Batching,
    *,
    length_of: Sequence[str] = ("token_ids",),
    padding_id: int = PADDING_ID,
    label_padding: int = NO_LABEL,
    corrupt: Corrupt | None = None,
    seed: int = 0,
) -> tf.data.Dataset:
    """Make batches of all examples, once, in the order of the records.

    Examples of similar length share a batch, and a batch holds as many of them as fit into its
    tokens. Examples that are blank or longer than `max_length` are left out; `count_examples`
    tells how many.

    Args:
        records: What to read from, such as `Records`, anew each time. What its `check` would have
            found ends the batches with an error of TensorFlow.
        featurize: TensorFlow function from a dict of the columns, strings `(N,)`, to a dict of
            inputs and the labels: tensors with N rows, ragged where rows differ in length. Special
            tokens are its business.
        batching: Size and length of batches.
        length_of: The inputs that decide the length of an example, which is that of the longest.
            Without any, as for pictures, each example counts as `max_length` tokens.
        padding_id: What these are padded with. Other inputs are padded with 0.
        label_padding: What labels are padded with, if they have a length.
        corrupt: TensorFlow function that is applied to each padded batch: of the inputs, the labels
            and a seed, two integers, that is another one for each batch. Returns inputs and labels.
        seed: The first of these integers; the second is the number of the batch.

    Returns:
        Data set of `(inputs, labels)`, dense tensors with B rows.
    """
    batches = _bucketed(_read(records), featurize, batching, length_of, padding_id, label_padding)
    if corrupt is not None:
        batches = _corrupted(batches, corrupt, seed, ALONE, 0)
    return untuned(batches.prefetch(2))


def make_example_training_batches(
    records: RecordSource,
    featurize: Featurize,
    batching: Batching,
    seed: int,
    size: ExampleSize,
    first_batch: int = 0,
    *,
    worker: Worker = ALONE,
    length_of: Sequence[str] = ("token_ids",),
    padding_id: int = PADDING_ID,
    label_padding: int = NO_LABEL,
    corrupt: Corrupt | None = None,
) -> tf.data.Dataset:
    """Make batches without end, shuffled anew in each epoch.

    Args:
        records: What to read from.
        featurize: As in `make_example_batches`.
        batching: Size and length of batches.
        seed: Decides the order and the damage; the same seed always gives the same batches.
        size: What `count_examples` gave for these records, batching and worker.
        first_batch: Number of batches to leave out, so that a run goes on where it stopped.
        worker: Its index, and the number of workers that share the records. Each gets examples of
            its own.
        length_of: As in `make_example_batches`.
        padding_id: Likewise.
        label_padding: Likewise.
        corrupt: Likewise; no two workers get the same seed, and no batch gets it again in another
            epoch.

    Returns:
        Data set as `make_example_batches` returns.
    """
    first_epoch, skipped = divmod(first_batch, size.batches)
    read = _read(records, worker)

    def epoch(number):
        tf.random.set_seed(1)  # of this graph: the order must not depend on the global seed
        # A seed for each epoch, so that any of them can begin without those before it.
        epoch_seed = tf.random.stateless_uniform(
            [], tf.stack([tf.constant(seed, tf.int64), number]), 0, 1 << 62, tf.int64
        )
        examples = read.unbatch().shuffle(SHUFFLE_EXAMPLES, epoch_seed).batch(LINES_AT_ONCE)
        batches = _bucketed(examples, featurize, batching, length_of, padding_id, label_padding)
        return batches.skip(tf.where(tf.equal(number, first_epoch), np.int64(skipped), 0))

    batches = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch)
    if corrupt is not None:
        batches = _corrupted(batches, corrupt, seed, worker, first_batch)
    return untuned(batches.prefetch(8))


def count_examples(
    records: RecordSource,
    featurize: Featurize,
    batching: Batching,
    *,
    worker: Worker = ALONE,
    length_of: Sequence[str] = ("token_ids",),
) -> ExampleSize:
    """Count what one epoch delivers.

    Args:
        records: What to read from.
        featurize: As in `make_example_batches`.
        batching: Size and length of batches.
        worker: Whose share of the records to count.
        length_of: As in `make_example_batches`.

    Raises:
        InputError: If no example is left.
    """
    bounds = tf.constant(batching.lengths, tf.int64)

    def count(state, featurized):
        blank, inputs, _ = featurized
        lengths, usable, too_long, empty = _find_usable(inputs, length_of, batching.max_length)
        lengths = [tf.boolean_mask(length, usable) for length in lengths]
        bucket = tf.searchsorted(bounds, tf.reduce_max(lengths, axis=0))
        in_bucket = tf.math.bincount(bucket, minlength=len(batching.lengths), dtype=tf.int64)
        return (
            state[0] + in_bucket,
            state[1] + tf.reduce_sum(lengths),
            state[2] + tf.math.count_nonzero(too_long),
            state[3] + blank + tf.math.count_nonzero(empty),
        )

    zero = tf.constant(0, tf.int64)
    start = (tf.zeros_like(bounds), zero, zero, zero)
    chunks = _featurized(_read(records, worker), featurize, length_of)
    totals = chunks.reduce(start, count)
    in_bucket, tokens, too_long, empty = (total.numpy() for total in totals)
    if not in_bucket.sum():
        raise InputError(
            f"No example can be used: {too_long:,} have more than {batching.max_length} tokens, "
            f"{empty:,} are empty."
        )
    return ExampleSize(
        examples=int(in_bucket.sum()),
        too_long=int(too_long),
        empty=int(empty),
        tokens=int(tokens),
        batches=sum(-(-int(n) // rows) for n, rows in zip(in_bucket, batching.sizes, strict=True)),
    )


def _read(records, worker: Worker = ALONE) -> tf.data.Dataset:
    """Read many records at once: -> dict of strings `(N,)`."""
    index, count = worker

    def chunks():
        rows = itertools.islice(records, index, None, count)
        while chunk := list(itertools.islice(rows, LINES_AT_ONCE)):
            texts = np.array([[text.encode() for text in row] for row in chunk], object)
            yield dict(zip(records.columns, texts.T, strict=True))

    spec = {name: tf.TensorSpec([None], tf.string) for name in records.columns}
    return tf.data.Dataset.from_generator(chunks, output_signature=spec)


def _featurized(chunks, featurize, length_of) -> tf.data.Dataset:
    """Give the number of rows with a blank column, and inputs and labels of the others."""

    def apply(columns):
        blank = [tf.equal(tf.strings.strip(x), "") for x in columns.values()]
        blank = tf.reduce_any(blank, axis=0)
        full = {name: tf.boolean_mask(x, tf.logical_not(blank)) for name, x in columns.items()}
        return tf.math.count_nonzero(blank), *featurize(full)

    featurized = chunks.map(apply, num_parallel_calls=tf.data.AUTOTUNE)
    given = featurized.element_spec[1]
    if missing := [name for name in length_of if name not in given]:
        raise InputError(
            f"featurize gives no {missing[0]}, but {', '.join(given)}: say with length_of which of "
            "them decide the length of an example."
        )
    return featurized


def _find_usable(inputs, length_of, max_length):
    """Return lengths `(N,)` of the inputs, and which rows are usable, too long, and empty."""
    lengths = [_row_lengths(inputs[name]) for name in length_of]
    if not lengths:
        rows = tf.shape(next(iter(inputs.values())), tf.int64)[:1]
        lengths = [tf.fill(rows, tf.constant(max_length, tf.int64))]
    empty = tf.equal(tf.reduce_min(lengths, axis=0), 0)
    too_long = tf.logical_and(tf.reduce_max(lengths, axis=0) > max_length, tf.logical_not(empty))
    return lengths, tf.logical_not(tf.logical_or(empty, too_long)), too_long, empty


def _row_lengths(rows):
    if isinstance(rows, tf.RaggedTensor):
        return tf.cast(rows.row_lengths(), tf.int64)
    shape = tf.shape(rows, tf.int64)
    return tf.fill(shape[:1], shape[1])


def _bucketed(chunks, featurize, batching, length_of, padding_id, label_padding):
    """Make batches: dicts of strings `(N,)` -> (inputs, labels)."""

    def keep_usable(_, inputs, labels):
        lengths, usable, _, _ = _find_usable(inputs, length_of, batching.max_length)
        kept = tf.nest.map_structure(lambda x: _rows(x, usable), (inputs, labels))
        return *kept, tf.boolean_mask(tf.reduce_max(lengths, axis=0), usable)

    def pad_with(inputs, labels, length):
        ids = {name: padding_id if name in length_of else 0 for name in inputs}
        of_inputs = {name: _value(ids[name], spec) for name, spec in inputs.items()}
        of_labels = tf.nest.map_structure(lambda spec: _value(label_padding, spec), labels)
        return of_inputs, of_labels, _value(0, length)

    examples = (
        _featurized(chunks, featurize, length_of)
        .map(keep_usable)
        .unbatch()
        .map(lambda *example: tf.nest.map_structure(tf.convert_to_tensor, example))
    )
    return examples.bucket_by_sequence_length(
        lambda inputs, labels, length: tf.cast(length, tf.int32),
        bucket_boundaries=[n + 1 for n in batching.lengths],
        bucket_batch_sizes=[*batching.sizes, 1],
        padding_values=pad_with(*examples.element_spec),
    ).map(lambda inputs, labels, lengths: (inputs, labels))


def _rows(x, kept):
    if isinstance(x, tf.RaggedTensor):
        return tf.ragged.boolean_mask(x, kept)
    return tf.boolean_mask(x, kept)


def _value(value, spec):
    """Give padding the type of what is padded."""
    if spec.dtype == tf.string:
        return tf.constant("")
    return tf.constant(False if spec.dtype == tf.bool else value, spec.dtype)


def _corrupted(batches, corrupt, seed, worker, first_batch):
    def damage(number, batch):
        number = number * worker[1] + worker[0]  # no two workers do the same damage
        return corrupt(*batch, tf.stack([tf.constant(seed, tf.int64), number]))

    return batches.enumerate(first_batch).map(damage)
