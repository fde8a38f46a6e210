"""From examples to batches, for any task: read, featurise, filter, bucket by length, pad.

    strings, 256 at once -> featurize -> vary -> buckets of similar length -> corrupt

The strings are lines of parallel text or columns of records. What a task makes of them is one
function, `featurize`. Examples are shuffled in a buffer of a fixed size, so memory does not grow
with the data.

Shapes: N examples read at once, B batch, S length.
"""

from collections.abc import Callable, Sequence
from typing import Any

from keras_transformer._tensorflow import tf
from keras_transformer.models.config import PADDING_ID
from keras_transformer.training.data.batching import (
    ALONE,
    Batching,
    Worker,
    untuned,
)
from keras_transformer.training.data.corpus_size import CorpusSize
from keras_transformer.training.data.data_service import on_data_service
from keras_transformer.training.data.featurizing import Featurize, featurized, find_usable
from keras_transformer.training.data.reading import (
    Group,
    Source,
    all_of,
    groups_of,
    read,
    shares_of,
)
from keras_transformer.training.data.turns import count_turns, make_turns
from keras_transformer.typing import Nested, Strings, Tensor, Tensors

SHUFFLE_EXAMPLES = 100_000
NO_LABEL = -1

# Columns by name, strings (N,), inputs, labels and a seed of two integers -> inputs and labels.
Vary = Callable[[dict[str, Strings], Tensors, Any, Tensor], tuple[Tensors, Any]]
# Inputs, labels and a seed of two integers -> inputs and labels.
Corrupt = Callable[[Tensors, Any, Tensor], tuple[Tensors, Any]]


def make_example_batches(
    source: Source,
    featurize: Featurize,
    batching: Batching,
    *,
    length_of: Sequence[str] = ("token_ids",),
    padding_id: int = PADDING_ID,
    label_padding: int = NO_LABEL,
    corrupt: Corrupt | None = None,
    seed: int = 0,
) -> tf.data.Dataset:
    """Make batches of all examples, once, in the order of the source.

    Examples of similar length share a batch, and a batch holds as many of them as fit into its
    tokens. Examples that are blank or longer than `max_length` are left out; `count_examples`
    tells how many.

    Args:
        source: What to read from anew each time: parallel text, or records. What its `check` would
            have found ends the batches with an error of TensorFlow.
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
    make = _batch_maker(source, featurize, batching, length_of, padding_id, label_padding)
    batches = make(read(all_of(source)), None)
    if corrupt is not None:
        batches = _corrupted(batches, corrupt, seed, ALONE, 0)
    return untuned(batches.prefetch(2))


def make_example_training_batches(
    source: Source,
    featurize: Featurize,
    batching: Batching,
    seed: int,
    size: CorpusSize,
    first_batch: int = 0,
    *,
    worker: Worker = ALONE,
    length_of: Sequence[str] = ("token_ids",),
    padding_id: int = PADDING_ID,
    label_padding: int = NO_LABEL,
    vary: Vary | None = None,
    corrupt: Corrupt | None = None,
    data_service: str | None = None,
) -> tf.data.Dataset:
    """Make batches without end, shuffled anew in each epoch.

    The parts of a mixture with weights take turns; see `training.data.turns`.

    Args:
        source: What to read from.
        featurize: As in `make_example_batches`.
        batching: Size and length of batches.
        seed: Decides the order and the damage; the same seed always gives the same batches.
        size: What `count_examples` gave for this source, batching and worker.
        first_batch: Number of batches to leave out, so that a run goes on where it stopped.
        worker: Its index, and the number of workers that share the source. Each gets files of its
            own, or examples of its own where there are fewer files than workers.
        length_of: As in `make_example_batches`.
        padding_id: Likewise.
        label_padding: Likewise.
        vary: TensorFlow function that is applied to many examples at once, before they are put into
            batches: of their columns, inputs and labels, and a seed, two integers, that is another
            one for each N of them in each epoch. Returns inputs and labels. What examples were
            before decides which of them share a batch, so that an epoch has as many batches.
        corrupt: As in `make_example_batches`; no two workers get the same seed, and no batch gets
            it again in another epoch.
        data_service: Address of a tf.data service that makes the batches, such as
            `grpc://host:5050`; `training.data.data_service` tells what is lost. For files alone.

    Returns:
        Data set as `make_example_batches` returns.
    """
    groups, parts = groups_of(source), size.parts or (size,)
    make = _batch_maker(source, featurize, batching, length_of, padding_id, label_padding, vary)
    turn = make_turns(shares_of(source), parts, seed, worker)
    done = count_turns(turn, len(groups), first_batch)

    def stream(group: Group, epoch_batches: int, first: int) -> tf.data.Dataset:
        first_epoch, skipped = divmod(first, epoch_batches)

        def epoch(number: Tensor) -> tf.data.Dataset:
            tf.random.set_seed(1)  # of this graph: the order must not depend on the global seed
            # A seed for each epoch, so that any of them can begin without those before it.
            epoch_seed = tf.random.stateless_uniform(
                [], tf.stack([tf.constant(seed, tf.int64), number]), 0, 1 << 62, tf.int64
            )
            examples = read(group, worker, epoch_seed)
            examples = examples.shuffle(SHUFFLE_EXAMPLES // len(groups), epoch_seed)
            skip = tf.where(tf.equal(number, first_epoch), tf.constant(skipped, tf.int64), 0)
            return make(examples, epoch_seed).skip(skip)

        return tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch)

    streams = [
        stream(group, part.batches, first)
        for group, part, first in zip(groups, parts, done, strict=True)
    ]
    batches = streams[0]
    if len(streams) > 1:
        turns = tf.data.Dataset.range(first_batch, tf.int64.max).map(turn)
        batches = tf.data.Dataset.choose_from_datasets(streams, turns)
    if data_service is not None:
        batches = on_data_service(batches, data_service)
    if corrupt is not None:
        batches = _corrupted(batches, corrupt, seed, worker, first_batch)
    return untuned(batches.prefetch(8))


def _batch_maker(
    source: Source,
    featurize: Featurize,
    batching: Batching,
    length_of: Sequence[str],
    padding_id: int,
    label_padding: int,
    vary: Vary | None = None,
) -> Callable[[tf.data.Dataset, Tensor | None], tf.data.Dataset]:
    """Return a function from examples, and the seed of their epoch, to batches."""

    def pad_with(inputs: Nested, labels: Nested, length: Nested) -> Nested:
        ids = {name: padding_id if name in length_of else 0 for name in inputs}
        of_inputs = {name: _value(ids[name], spec) for name, spec in inputs.items()}
        of_labels = tf.nest.map_structure(lambda spec: _value(label_padding, spec), labels)
        return of_inputs, of_labels, _value(0, length)

    def make(examples: tf.data.Dataset, epoch_seed: Tensor | None) -> tf.data.Dataset:
        def keep_usable(number: Tensor, chunk: tuple[Any, ...]) -> tuple[Any, ...]:
            columns, _, inputs, labels = chunk
            lengths, usable, _, _ = find_usable(inputs, length_of, batching.max_length)
            columns, inputs, labels, longest = tf.nest.map_structure(
                lambda x: _rows(x, usable),
                (columns, inputs, labels, tf.reduce_max(lengths, axis=0)),
            )
            if vary is not None:
                inputs, labels = vary(columns, inputs, labels, tf.stack([epoch_seed, number]))
            return inputs, labels, longest

        rows = (
            featurized(examples, source.columns, featurize, length_of)
            .enumerate()
            .map(keep_usable, num_parallel_calls=tf.data.AUTOTUNE)
            .unbatch()
            .map(lambda *example: tf.nest.map_structure(tf.convert_to_tensor, example))
        )
        return rows.bucket_by_sequence_length(
            lambda inputs, labels, length: tf.cast(length, tf.int32),
            bucket_boundaries=[n + 1 for n in batching.lengths],
            bucket_batch_sizes=[*batching.sizes, 1],
            padding_values=pad_with(*rows.element_spec),
        ).map(lambda inputs, labels, lengths: (inputs, labels))

    return make


def _rows(x: Tensor, kept: Tensor) -> Tensor:
    if isinstance(x, tf.RaggedTensor):
        return tf.ragged.boolean_mask(x, kept)
    return tf.boolean_mask(x, kept)


def _value(value: int, spec: tf.TensorSpec) -> Tensor:
    """Give padding the type of what is padded."""
    if spec.dtype == tf.string:
        return tf.constant("")
    return tf.constant(False if spec.dtype == tf.bool else value, spec.dtype)


def _corrupted(
    batches: tf.data.Dataset, corrupt: Corrupt, seed: int, worker: Worker, first_batch: int
) -> tf.data.Dataset:
    def damage(number: Tensor, batch: tuple[Tensors, Any]) -> tuple[Tensors, Any]:
        number = number * worker[1] + worker[0]  # no two workers do the same damage
        inputs, labels = batch
        return corrupt(inputs, labels, tf.stack([tf.constant(seed, tf.int64), number]))

    return batches.enumerate(first_batch).map(damage)
