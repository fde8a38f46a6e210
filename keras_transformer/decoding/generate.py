"""Generation: what ties a model to a search.

An encoder-decoder writes a target for a source. A language model goes on with a prompt, which takes
the place of the source: it is read once, and every hypothesis of it shares what was read.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_transformer.artefacts.generation_options import GREEDY, GenerationOptions
from keras_transformer.decoding.loops import compiled
from keras_transformer.decoding.sampling import row_seeds
from keras_transformer.decoding.search import Search, power_of_two
from keras_transformer.decoding.state import Beginning, ModelCache
from keras_transformer.errors import InputError
from keras_transformer.layers import padding_mask
from keras_transformer.models.attention_maps import attention_maps
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.typing import Ids, Logits, Mask, Tensor, Tensors

# The paper's bound: an output is at most this much longer than its source (section 6.1).
EXTRA_LENGTH = 50


def generate(
    model: ConfiguredModel,
    source_ids: Ids,
    options: GenerationOptions = GREEDY,
    prefix_ids: Ids | None = None,
    seeds: Tensor | None = None,
    jit_compile: bool = False,
) -> tuple[Tensor, Tensor]:
    """Generate targets by greedy search, beam search or sampling.

    The source is encoded once, and the keys and values of cross-attention are computed once a
    source, whatever the number of hypotheses. A row without any token gets an empty target. What a
    row gives does not depend on the rows beside it, samples included.

    Args:
        model: A `Transformer`, or a `Gpt`, which goes on with prompts.
        source_ids: Integer tensor `(B, S)`, each row ended by the end token and padded. For a
            language model: prompts, not ended.
        options: `GenerationOptions`.
        prefix_ids: Integer tensor `(B, P)`: tokens that each target has to begin with, padded; None
            for none.
        seeds: Integer tensor `(B,)` in place of the seed of `options`, one a row.
        jit_compile: Whether XLA compiles the encoder and the steps. It takes seconds for every new
            shape, of which there are few: the numbers of rows and source tokens are rounded up to
            powers of two. TensorFlow only.

    Returns:
        Tuple of the target ids `(B, T)`, int32, ended by the end token and padded with 0, and
        their scores `(B,)`, float32: the sum of the tokens' log-probabilities, which beam search
        divides by the length penalty. With `num_hypotheses` N > 1 the shapes are `(B, N, T)` and
        `(B, N)`, best first.

    Raises:
        InputError: If a prompt or prefix is padded elsewhere than at its end; see `check_padding`.
    """
    search = make_search(model, options, jit_compile)
    count, length = ops.shape(source_ids)
    if jit_compile:
        rows = power_of_two(count) - count
        columns = ops.minimum(power_of_two(length), ops.maximum(length, model.config.max_length))
        source_ids = ops.pad(source_ids, ((0, rows), (0, columns - length)))
        prefix_ids = None if prefix_ids is None else ops.pad(prefix_ids, ((0, rows), (0, 0)))
        seeds = None if seeds is None else ops.pad(seeds, ((0, rows),))
    ids, scores = search.run(**encode(model, source_ids, options, prefix_ids, seeds, jit_compile))
    if jit_compile:
        ids, scores = ids[:count], scores[:count]
    if options.num_hypotheses == 1:
        ids, scores = ops.squeeze(ids, 1), ops.squeeze(scores, 1)
    return ids, scores


def make_search(
    model: ConfiguredModel, options: GenerationOptions = GREEDY, jit_compile: bool = False
) -> Search:
    """Make the `Search` over a model's decoder; arguments as for `generate`."""

    def step(
        ids: Tensor, cache: ModelCache, index: Tensor, visible: Mask
    ) -> tuple[Logits, ModelCache]:
        logits, caches = model.decoder_step(
            (ids, index, cache["target"], visible, cache["memory_bias"], cache["memory"])
        )
        return logits, {**cache, "target": caches}

    def make_room(cache: ModelCache, slots: Tensor) -> ModelCache:
        return {**cache, "target": model.grow_caches(cache["target"], slots)}

    config = model.config
    return Search(
        step, config.begin_id, config.end_id, config.padding_id, options, make_room, jit_compile
    )


def encode(
    model: ConfiguredModel,
    source_ids: Ids,
    options: GenerationOptions = GREEDY,
    prefix_ids: Ids | None = None,
    seeds: Tensor | None = None,
    jit_compile: bool = False,
) -> Beginning:
    """Encode sources; arguments as for `generate`.

    Returns:
        Dict of the arguments of `Search.run` and `Search.start`.
    """
    if _continues(model):
        check_padding(source_ids, model.config.padding_id, "source_ids")
    check_padding(prefix_ids, model.config.padding_id, "prefix_ids")
    config, source_ids = model.config, ops.cast(source_ids, "int32")
    lengths = ops.sum(ops.cast(padding_mask(source_ids, config.padding_id), "int32"), axis=1)
    first = None  # the begin token
    if _continues(model):
        last = ops.arange(ops.size(lengths), dtype="int32") * ops.shape(source_ids)[1]
        last = last + ops.maximum(lengths - 1, 0)
        first = ops.take(ops.reshape(source_ids, (-1,)), last)
        longest = min(options.max_length or EXTRA_LENGTH, config.max_length)
        limits = ops.minimum(longest, config.max_length - lengths)  # the rest of the context
        finished = lengths < 1
    elif options.max_length is not None:
        longest = min(config.max_length, options.max_length)
        limits = ops.full_like(lengths, longest)
    else:
        limits = ops.minimum(lengths + EXTRA_LENGTH, config.max_length)
        longest = ops.shape(source_ids)[1] + EXTRA_LENGTH  # a number, or a tensor inside a graph
        known = isinstance(longest, int)
        longest = (min if known else ops.minimum)(longest, config.max_length)
    if not _continues(model):
        finished = lengths <= 1  # the end token alone: there is nothing to translate
    if options.samples:
        seeds = row_seeds(options.seed if seeds is None else seeds, source_ids)
    encoder = compiled(model.encoder) if jit_compile else model.encoder
    memory_bias, memory_caches = encoder(source_ids)
    return {
        "cache": {
            "target": model.empty_caches(ops.shape(source_ids)[0], 0),
            "memory_bias": memory_bias,
            "memory": memory_caches,
        },
        "limits": limits,
        "max_length": longest,
        "finished": finished,
        "first": first,
        "prefix": prefix_ids,
        "seeds": seeds,
    }


def check_padding(ids: Any, padding_id: int, name: str) -> None:
    """Make sure that rows which a decoder reads are padded at their ends alone.

    Every token sees all before it, so that one behind padding would attend to that too. It is
    checked where there are numbers to look at, which is not while a graph is traced.

    Args:
        ids: Integers `(B, T)`, or None.
        padding_id: The id of padding.
        name: What the message calls them.

    Raises:
        InputError: If there is a token behind padding.
    """
    if ids is None or not (isinstance(ids, (np.ndarray, list, tuple)) or hasattr(ids, "numpy")):
        return
    real = np.asarray(ids) != padding_id
    wrong = np.argwhere(real[:, 1:] & ~real[:, :-1])
    if len(wrong):
        row, column = wrong[0]
        raise InputError(
            f"{name} has padding (id {padding_id}) before a token in row {row}, column "
            f"{column + 1}. Put all padding at the end of a row."
        )


def _continues(model: ConfiguredModel) -> bool:
    """Return whether a model continues its input."""
    return getattr(model, "continues", False)


def next_token_probabilities(model: ConfiguredModel, source_ids: Ids, target_ids: Ids) -> Tensor:
    """Compute the distribution of the token that follows each target prefix.

    Args:
        model: A `Transformer`, or a `Gpt`.
        source_ids: Integer tensor `(B, S)`, ended by the end token and padded. For a language
            model: prompts.
        target_ids: Integer tensor `(B, T)`: prefixes, beginning with the begin token and padded.
            For a language model: what follows each prompt, maybe nothing.

    Returns:
        Float32 tensor `(B, V)`; each row sums to 1.
    """
    # The begin token, which comes first, has the id of padding in some published models.
    check_padding(target_ids[:, 1:], model.config.padding_id, "target_ids[:, 1:]")
    # Both as tensors: a model refuses a mixture of tensors and arrays.
    source_ids, target_ids = ops.cast(source_ids, "int32"), ops.cast(target_ids, "int32")
    inputs = {"source_ids": source_ids, "target_ids": target_ids}
    if _continues(model):
        target_ids = _in_context(model, join_rows(source_ids, target_ids, model.config.padding_id))
        inputs = {"token_ids": target_ids}
    logits = model(inputs, training=False)
    padding = padding_mask(target_ids, model.config.padding_id)
    count = ops.sum(ops.cast(padding, "int32"), axis=1)
    length = ops.shape(target_ids)[1]
    last = ops.arange(ops.size(count), dtype="int32") * length + ops.maximum(count - 1, 0)
    logits = ops.take(ops.reshape(logits, (-1, logits.shape[-1])), last, axis=0)
    return ops.softmax(ops.cast(logits, "float32"), axis=-1)


def score(model: ConfiguredModel, source_ids: Ids, target_ids: Ids) -> Tensor:
    """Compute the log-probabilities of given targets, in one teacher-forced pass.

    Args:
        model: A `Transformer`.
        source_ids: Integer tensor `(B, S)`, ended by the end token and padded.
        target_ids: Integer tensor `(B, T)`, without the begin token, ended by the end token and
            padded.

    Returns:
        Float32 tensor `(B, T)`: the log-probability of each token, 0 at padding. Its sum over a
        row is what greedy search gives as score.
    """
    logits = logits_of(model, source_ids, target_ids)
    target_ids = ops.cast(target_ids, "int32")
    shares = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)  # (B, T, V)
    numbers = ops.arange(ops.size(target_ids), dtype="int32") * shares.shape[-1]
    places = ops.reshape(target_ids, (-1,)) + numbers
    chosen = ops.reshape(ops.take(ops.reshape(shares, (-1,)), places), ops.shape(target_ids))
    return ops.where(padding_mask(target_ids, model.config.padding_id), chosen, 0.0)


def logits_of(model: ConfiguredModel, source_ids: Ids, target_ids: Ids) -> Logits:
    """Compute the logits of given targets, `(B, T, V)`; arguments as for `score`."""
    check_padding(target_ids, model.config.padding_id, "target_ids")
    if _continues(model):
        check_padding(source_ids, model.config.padding_id, "source_ids")
        source_ids = ops.cast(source_ids, "int32")
        return _logits_of_continuation(model, source_ids, ops.cast(target_ids, "int32"))
    return model(_teacher_forced(model, source_ids, target_ids), training=False)


def align(model: ConfiguredModel, source_ids: Ids, target_ids: Ids) -> Tensor:
    """Compute how each target token attends to the source, as the mean of all heads of all blocks.

    Args:
        model: A `Transformer`.
        source_ids: Integer tensor `(B, S)`, ended by the end token and padded.
        target_ids: Integer tensor `(B, T)`, without the begin token, ended by the end token and
            padded.

    Returns:
        Float32 tensor `(B, T, S)`. Row t belongs to the position that predicts target token t, and
        sums to 1.

    Reference: Bahdanau et al. 2015, section 5.2.1, for reading attention as alignment.
    """
    weights = cross_attention(model, source_ids, target_ids)
    return ops.mean(weights, axis=(1, 2))


def cross_attention(model: ConfiguredModel, source_ids: Ids, target_ids: Ids) -> Tensor:
    """Compute which source tokens each target token attends to, in every head of every block.

    Args:
        model: A `Transformer`.
        source_ids: As for `align`.
        target_ids: As for `align`.

    Returns:
        Float32 tensor `(B, L, H, T, S)`, L the number of blocks. Each row sums to 1.
    """
    maps = attention_maps(model, _teacher_forced(model, source_ids, target_ids))["cross"]
    return ops.stack(maps, axis=1)


def _teacher_forced(model: ConfiguredModel, source_ids: Ids, target_ids: Ids) -> Tensors:
    """Return the model's inputs: the target is shifted right behind the begin token."""
    # Both as tensors: a model refuses a mixture of tensors and arrays.
    source_ids, target_ids = ops.cast(source_ids, "int32"), ops.cast(target_ids, "int32")
    begin = ops.full_like(target_ids[:, :1], model.config.begin_id)
    shifted = ops.concatenate([begin, target_ids[:, :-1]], axis=1)
    return {"source_ids": source_ids, "target_ids": shifted}


def _logits_of_continuation(model: ConfiguredModel, prompt_ids: Ids, target_ids: Ids) -> Logits:
    """Score the tokens that follow each prompt: `(B, S)` and `(B, T)` -> logits `(B, T, V)`."""
    padding_id = model.config.padding_id
    joined = _in_context(model, join_rows(prompt_ids, target_ids, padding_id))
    logits = model({"token_ids": joined}, training=False)
    lengths = ops.sum(ops.cast(padding_mask(prompt_ids, padding_id), "int32"), axis=1)
    rows, width = ops.shape(joined)
    before = ops.expand_dims(ops.arange(rows, dtype="int32") * width + lengths - 1, 1)
    places = before + ops.arange(ops.shape(target_ids)[1], dtype="int32")
    places = ops.minimum(places, rows * width - 1)  # padding may lie beyond
    flat = ops.reshape(logits, (-1, logits.shape[-1]))
    picked = ops.take(flat, ops.reshape(places, (-1,)), axis=0)
    return ops.reshape(picked, (-1, ops.shape(target_ids)[1], logits.shape[-1]))


def _in_context(model: ConfiguredModel, ids: Ids) -> Ids:
    """Cut rows to what the model can read: longer ones are padding, or do not fit."""
    rows, width = ops.shape(ids)
    longest = model.config.max_length
    width = (min if isinstance(width, int) else ops.minimum)(width, longest)
    return ops.slice(ids, (0, 0), (rows, width))


def join_rows(first: Ids, second: Ids, padding_id: int) -> Ids:
    """Join padded rows without a gap: `(B, S)` and `(B, T)` -> `(B, S + T)`, padded at the end."""
    lengths = ops.sum(ops.cast(padding_mask(first, padding_id), "int32"), axis=1, keepdims=True)
    rows, width = ops.shape(first)[0], ops.shape(first)[1]
    more = ops.shape(second)[1]
    places = ops.expand_dims(ops.arange(width + more, dtype="int32"), 0)  # (1, S + T)
    # In both rows laid end to end, the second's token comes `width - lengths` later.
    shift = ops.where(places < lengths, 0, width - lengths)
    source = ops.concatenate([first, second], axis=1)
    source = ops.pad(source, ((0, 0), (0, 1)), constant_values=padding_id)
    places = ops.minimum(places + shift, width + more)
    begin = ops.expand_dims(ops.arange(rows, dtype="int32") * (width + more + 1), 1)
    joined = ops.take(ops.reshape(source, (-1,)), ops.reshape(begin + places, (-1,)))
    return ops.reshape(joined, (-1, width + more))
