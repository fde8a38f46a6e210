"""Damage to text for a model to repair: masked tokens, replaced ones, and spans taken out.

Everything runs inside a `tf.data` graph and draws from the seed that it is given alone: the same
seed gives the same damage, so a run can begin at any batch, and another seed gives other damage, so
that no epoch hides what the one before it hid (dynamic masking).

Shapes: B batch, S length, P masked places, V vocabulary.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.typing import Ids, Logits, Mask, Ragged, Shape, Size, Tensor, Tensors

MASK_SHARE, RANDOM_SHARE = 0.8, 0.1  # of the chosen tokens; the rest stay as they are
NONE = -1  # label of what counts for nothing

Seed: TypeAlias = Sequence[int] | Tensor  # two integers


def mask_tokens(
    ids: Ids,
    seed: Seed,
    *,
    mask_id: int,
    vocabulary_size: int,
    special_ids: Sequence[int],
    rate: float = 0.15,
    max_places: int | None = None,
) -> Tensors:
    """Choose tokens to be predicted, and hide most of them.

    Of n real tokens in a row, round(rate * n) are chosen, at least one. A chosen token becomes the
    mask with probability 0.8 and a random token with 0.1; otherwise it stays, and is predicted all
    the same. So a model that sees a token can't tell whether it is the one that was there.

    Args:
        ids: Integer tensor `(B, S)`.
        seed: Two integers; the same seed gives the same result.
        mask_id: Id of the mask.
        vocabulary_size: Number of tokens V.
        special_ids: Ids that are never chosen nor drawn: padding, begin, end and the like. The
            mask is one without being named.
        rate: Share of the real tokens that is chosen.
        max_places: The number of places P; tokens beyond it are not chosen. None for as many as
            the row with the most needs.

    Returns:
        Dict of `token_ids`, like `ids`; `places`, int32 `(B, P)`, the positions of the chosen
        tokens, ascending; and `labels`, int32 `(B, P)`, their ids. Short rows are filled up with
        place 0 and label -1.

    Raises:
        InputError: If `rate` is not between 0 and 1, or no token can be drawn.

    Reference: Devlin et al. 2019, section 3.1; Liu et al. 2019, "RoBERTa", section 4.1, for masks
        that differ in every epoch.
    """
    _check_rate(rate)
    ordinary = np.setdiff1d(np.arange(vocabulary_size), [*special_ids, mask_id])
    if not len(ordinary):
        raise InputError(f"All of the {vocabulary_size} tokens are special: none can be drawn.")
    ids = tf.convert_to_tensor(ids)
    seeds = tf.random.split(_as_seed(seed), 3)
    real = _is_none_of(ids, [*special_ids, mask_id])
    count = _share_of(tf.math.count_nonzero(real, axis=1, dtype=tf.int32), rate)  # (B,)
    if max_places is not None:
        count = tf.minimum(count, max_places)
    size = tf.reduce_max(count, axis=0) if max_places is None else max_places
    size = tf.maximum(size, 0)  # of no rows the maximum is the lowest integer
    scores = tf.random.stateless_uniform(tf.shape(ids), seeds[0])
    order = tf.argsort(tf.where(real, scores, 2.0), axis=1)[:, :size]  # (B, P), or S columns
    if max_places is not None:
        order = tf.pad(order, [[0, 0], [0, size - tf.shape(order)[1]]])
        order = tf.ensure_shape(order, [None, max_places])
    chosen = tf.range(size) < count[:, tf.newaxis]
    end = tf.shape(ids)[1]
    places = tf.sort(tf.where(chosen, order, end), axis=1)  # what fills up comes last
    places = tf.where(chosen, places, 0)
    originals = tf.gather(ids, places, batch_dims=1)

    drawn = tf.random.stateless_uniform(tf.shape(places), seeds[1], 0, len(ordinary), tf.int32)
    drawn = tf.gather(tf.constant(ordinary, ids.dtype), drawn)
    kind = tf.random.stateless_uniform(tf.shape(places), seeds[2])
    new = tf.where(kind < MASK_SHARE + RANDOM_SHARE, drawn, originals)
    new = tf.where(kind < MASK_SHARE, tf.cast(mask_id, ids.dtype), new)
    return {
        "token_ids": _put(ids, places, new, chosen),
        "places": places,
        "labels": tf.where(chosen, tf.cast(originals, tf.int32), NONE),
    }


def replace_tokens(
    ids: Ids, places: Tensor, sampled: Tensor, *, special_ids: Sequence[int]
) -> tuple[Ids, Tensor]:
    """Put samples into a text, and label what was replaced.

    A sample that happens to be the token that was there replaces nothing.

    Args:
        ids: Integer tensor `(B, S)`, before anything was masked.
        places: Integer tensor `(B, P)` as `mask_tokens` gives it: ascending, and what does not
            ascend fills up the row.
        sampled: Integer tensor `(B, P)`, the tokens to put there.
        special_ids: Ids that are neither replaced nor labelled, padding among them.

    Returns:
        Tuple of the new ids, like `ids`, and int32 labels `(B, S)`: 1 where the token differs from
        the original, 0 where it is the original, -1 at special tokens and padding.

    Reference: Clark et al. 2020, "ELECTRA", section 2.
    """
    ids, places = tf.convert_to_tensor(ids), tf.cast(places, tf.int32)
    real = _is_none_of(ids, special_ids)
    ascends = tf.concat([places[:, :1] >= 0, places[:, 1:] > places[:, :-1]], axis=1)
    chosen = tf.logical_and(ascends, tf.gather(real, places, batch_dims=1))
    new = _put(ids, places, tf.cast(sampled, ids.dtype), chosen)
    return new, tf.where(real, tf.cast(tf.not_equal(new, ids), tf.int32), NONE)


def sample_replacements(logits: Logits, seed: Seed, *, special_ids: Sequence[int] = ()) -> Tensor:
    """Draw a token for each place from what a generator thinks likely.

    Args:
        logits: Float tensor `(B, P, V)`, of a masked language model.
        seed: Two integers; the same seed gives the same result.
        special_ids: Ids that are never drawn. Padding would be taken for padding.

    Returns:
        Int32 tensor `(B, P)`. No gradient flows through it.

    Reference: Clark et al. 2020, "ELECTRA", section 2.
    """
    logits = tf.stop_gradient(tf.cast(logits, tf.float32))
    allowed = ~np.isin(np.arange(logits.shape[-1]), [*special_ids])
    # The Gumbel-max trick; XLA compiles it on every device, which is not so for the op that draws.
    tiny = np.finfo(np.float32).tiny
    uniform = tf.random.stateless_uniform(tf.shape(logits), _as_seed(seed), tiny)
    scores = logits - tf.math.log(-tf.math.log(uniform))
    return tf.argmax(tf.where(allowed, scores, logits.dtype.min), axis=-1, output_type=tf.int32)


def sample_unigrams(counts: Sequence[float], shape: Shape, seed: Seed) -> Tensor:
    """Draw tokens by how often they occur: the generator that needs no training.

    Args:
        counts: How often each token occurs, `(V,)`; 0 for those that are never to be drawn.
        shape: Shape of the result, such as that of `places`.
        seed: Two integers; the same seed gives the same result.

    Returns:
        Int32 tensor of `shape`.

    Raises:
        InputError: If there is nothing to draw from.

    Reference: Clark et al. 2020, "ELECTRA", section 3.4, "unigram".
    """
    total = np.cumsum(np.asarray(counts, np.float64))
    if not (len(total) and np.isfinite(total[-1]) and total[-1] > 0 and np.min(counts) >= 0):
        raise InputError("The counts of the tokens must not be negative, and not all be 0.")
    drawn = tf.random.stateless_uniform(shape, _as_seed(seed), dtype=tf.float64)
    found = tf.searchsorted(total / total[-1], tf.reshape(drawn, [-1]), side="right")
    return tf.reshape(found, shape)


def infill_text(
    ids: Ragged,
    seed: Seed,
    *,
    mask_id: int,
    rate: float = 0.3,
    mean_length: float = 3.0,
) -> Ragged:
    """Take spans out of a text, and leave one mask for each (text infilling).

    Of n tokens in a row, round(rate * n) are taken out, at least one. Lengths of spans are drawn
    from a Poisson distribution; the last span is cut to what is missing. A span of length 0 is a
    mask where nothing was taken out. Spans lie anywhere, each arrangement of the masks among the
    tokens that are left being as likely as any other.

    Args:
        ids: Ragged integers `(B, (S))`, the text alone: special tokens come later.
        seed: Two integers; the same seed gives the same result.
        mask_id: Id of the mask.
        rate: Share of the tokens that is taken out.
        mean_length: Mean length of a span, at least 1.

    Returns:
        Ragged tensor like `ids`, with rows of other lengths: longer ones, too, if spans are short.

    Raises:
        InputError: If `rate` is not between 0 and 1, or `mean_length` below 1.

    Reference: Lewis et al. 2020, "BART", section 2.2.
    """
    _check_rate(rate)
    _check_mean_length(mean_length)
    seeds = tf.random.split(_as_seed(seed), 2)
    # One column more, so that there is one to point to.
    text = tf.pad(ids.to_tensor(), [[0, 0], [0, 1]])  # (B, S)
    lengths = tf.cast(ids.row_lengths(), tf.int32)  # n
    removed = _share_of(lengths, rate)
    rows, width = tf.unstack(tf.shape(text))

    # More spans than can be needed; the last would take out all, so the number is always reached.
    spans = 2 * width + 8
    sizes = tf.random.stateless_poisson([rows, spans], seeds[0], mean_length, tf.int32)
    sizes = tf.concat([sizes[:, :-1], tf.fill([rows, 1], width)], axis=1)
    before = tf.cumsum(sizes, axis=1, exclusive=True)
    used = before < removed[:, tf.newaxis]
    sizes = tf.minimum(sizes, removed[:, tf.newaxis] - before)

    # What comes out is a row of items, each a mask or a token, in an order drawn at random. An item
    # uses up as many tokens of the text as it stands for.
    left = tf.range(width) < (lengths - removed)[:, tf.newaxis]
    keys = tf.random.stateless_uniform([rows, spans + width], seeds[1])
    order = tf.argsort(tf.where(tf.concat([used, left], axis=1), keys, 2.0), axis=1)
    uses = tf.gather(tf.pad(sizes, [[0, 0], [0, width]], constant_values=1), order, batch_dims=1)
    place = tf.minimum(tf.cumsum(uses, axis=1, exclusive=True), width - 1)
    items = tf.gather(text, tf.maximum(place, 0), batch_dims=1)
    items = tf.where(order < spans, tf.cast(mask_id, ids.dtype), items)
    count = tf.math.count_nonzero(used, axis=1, dtype=tf.int32) + lengths - removed
    return tf.RaggedTensor.from_tensor(items, lengths=count)


def permute_sentences(ids: Ragged, seed: Seed, *, stop_ids: Sequence[int]) -> Ragged:
    """Put the sentences of each text into another order.

    Args:
        ids: Ragged integers `(B, (S))`.
        seed: Two integers; the same seed gives the same result.
        stop_ids: Ids that end a sentence, such as that of the full stop.

    Returns:
        Ragged tensor like `ids`, with rows of the same lengths.

    Reference: Lewis et al. 2020, "BART", section 2.2.
    """
    text = tf.pad(ids.to_tensor(), [[0, 0], [0, 1]])  # (B, S)
    stops = tf.logical_not(_is_none_of(text, stop_ids))
    sentence = tf.cumsum(tf.cast(stops, tf.int32), axis=1, exclusive=True)
    keys = tf.random.stateless_uniform(tf.shape(text), _as_seed(seed))
    keys = tf.gather(keys, sentence, batch_dims=1)  # the same in all of a sentence
    lengths = ids.row_lengths()
    real = tf.sequence_mask(lengths, tf.shape(text)[1])
    order = tf.argsort(tf.where(real, keys, 2.0), axis=1, stable=True)
    return tf.RaggedTensor.from_tensor(tf.gather(text, order, batch_dims=1), lengths=lengths)


def corrupt_spans(
    ids: Ragged,
    seed: Seed,
    *,
    sentinel_ids: Sequence[int],
    rate: float = 0.15,
    mean_length: float = 3.0,
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Cut spans out of a text, and make a target of them.

    Of n tokens in a row, round(rate * n) are cut out, in round(that / mean_length) spans, at least
    one token in one span. Spans lie anywhere, with a token or more between them, where T5's
    reference has one at the end of every text: short texts would only be cut there. A text of
    fewer than two tokens stays whole. If there are too few sentinels, spans are fewer and longer.

    Args:
        ids: Ragged integers `(B, (S))`, the text alone: special tokens come later.
        seed: Two integers; the same seed gives the same result.
        sentinel_ids: Ids that stand for the first span, the second, and so on.
        rate: Share of the tokens that is cut out.
        mean_length: Mean length of a span, at least 1.

    Returns:
        Tuple of ragged inputs, in which each span is its sentinel, and ragged targets: each
        sentinel and what was cut out there. An end token is still to be added to both.

    Raises:
        InputError: If `rate` is not between 0 and 1, `mean_length` below 1, or without sentinels.

    Reference: Raffel et al. 2020, "T5", section 3.1.4.
    """
    _check_rate(rate)
    _check_mean_length(mean_length)
    if not len(sentinel_ids):
        raise InputError("Spans need sentinels: give at least one id as sentinel_ids.")
    seeds = tf.random.split(_as_seed(seed), 2)
    text = ids.to_tensor()  # (B, S)
    rows, width = tf.unstack(tf.shape(text))
    lengths = tf.cast(ids.row_lengths(), tf.int32)  # n
    removed = tf.clip_by_value(_share_of(lengths, rate), 0, tf.maximum(lengths - 1, 0))
    left = lengths - removed
    spans = tf.cast(tf.round(tf.cast(removed, tf.float64) / mean_length), tf.int32)
    most = tf.minimum(tf.minimum(removed, left + 1), len(sentinel_ids))
    spans = tf.minimum(tf.maximum(spans, 1), most)  # 0 where nothing is cut out

    # What is cut out falls into parts, and each goes into another gap before, between or behind the
    # tokens that stay.
    column = tf.range(width)
    first = tf.where(column == 0, -1.0, _keys([rows, width], seeds[0], removed))
    part = tf.cumsum(_lowest(first, spans), axis=1) - 1  # of each token that is cut out
    passed = tf.cumsum(_lowest(_keys([rows, width], seeds[1], left + 1), spans), axis=1)
    keys = tf.concat(
        [
            tf.where(column < left[:, tf.newaxis], 2 * passed, 2 * width),
            tf.where(column < removed[:, tf.newaxis], 2 * part + 1, 2 * width),
        ],
        axis=1,
    )
    order = tf.argsort(keys, axis=1, stable=True)
    real = tf.sequence_mask(lengths, width)
    cut = tf.logical_and(order[:, :width] >= width, real)
    begins = tf.logical_and(cut, tf.logical_not(tf.pad(cut[:, :-1], [[0, 0], [1, 0]])))
    number = tf.maximum(tf.cumsum(tf.cast(begins, tf.int32), axis=1) - 1, 0)
    sentinels = tf.gather(tf.constant([*sentinel_ids], ids.dtype), number)

    stays = tf.logical_and(real, tf.logical_or(tf.logical_not(cut), begins))
    inputs = tf.ragged.boolean_mask(tf.where(begins, sentinels, text), stays)
    pairs = tf.reshape(tf.stack([sentinels, text], axis=2), [rows, 2 * width])
    used = tf.reshape(tf.stack([begins, cut], axis=2), [rows, 2 * width])
    return inputs, tf.ragged.boolean_mask(pairs, used)


def _keys(shape: Sequence[Size], seed: Seed, count: Tensor) -> Tensor:
    """Draw a number below 1 for the first `count` items of each row, and give the others 2."""
    drawn = tf.random.stateless_uniform(shape, seed)
    return tf.where(tf.range(shape[1]) < count[:, tf.newaxis], drawn, 2.0)


def _lowest(keys: Tensor, count: Tensor) -> Tensor:
    """Give 1 to the `count` lowest keys of each row, and 0 to the others."""
    rank = tf.argsort(tf.argsort(keys, axis=1), axis=1)
    return tf.cast(rank < count[:, tf.newaxis], tf.int32)


def _put(ids: Ids, places: Tensor, new: Tensor, chosen: Mask) -> Ids:
    """Set the chosen places of each row; the others are set in a column that is cut off again."""
    rows, width = tf.unstack(tf.shape(ids))
    columns = tf.where(chosen, places, width)
    row = tf.broadcast_to(tf.range(rows)[:, tf.newaxis], tf.shape(columns))
    padded = tf.pad(ids, [[0, 0], [0, 1]])
    padded = tf.tensor_scatter_nd_update(padded, tf.stack([row, columns], axis=2), new)
    return tf.ensure_shape(padded[:, :width], ids.shape)


def _is_none_of(ids: Ids, unwanted: Iterable[int]) -> Mask:
    unwanted = tf.constant([*unwanted], ids.dtype)
    return tf.reduce_all(tf.not_equal(ids[..., tf.newaxis], unwanted), axis=-1)


def _share_of(count: Tensor, rate: float) -> Tensor:
    """Round a share as Python does, but to at least 1 of what there is."""
    share = tf.cast(tf.round(rate * tf.cast(count, tf.float64)), count.dtype)
    return tf.minimum(tf.maximum(share, 1), count)


def _as_seed(seed: Seed) -> Tensor:
    return tf.stack([tf.cast(seed[0], tf.int64), tf.cast(seed[1], tf.int64)])


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise InputError(f"The rate must be between 0 and 1, got {rate!r}.")


def _check_mean_length(length: float) -> None:
    if not 1 <= length < float("inf"):
        raise InputError(f"The mean length of spans must be at least 1, got {length!r}.")
