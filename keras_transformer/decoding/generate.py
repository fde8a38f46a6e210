"""Generation: what ties a model to a search."""

from keras import ops

from keras_transformer.decoding.loops import compiled
from keras_transformer.decoding.sampling import row_seeds
from keras_transformer.decoding.search import Search, power_of_two
from keras_transformer.generation_options import GREEDY
from keras_transformer.layers import padding_mask
from keras_transformer.models.attention_maps import attention_maps
from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID

# The paper's bound: an output is at most this much longer than its source (section 6.1).
EXTRA_LENGTH = 50


def generate(model, source_ids, options=GREEDY, prefix_ids=None, seeds=None, jit_compile=False):
    """Generate targets by greedy search, beam search or sampling.

    The source is encoded once, and the keys and values of cross-attention are computed once a
    source, whatever the number of hypotheses. A row without any token gets an empty target. What a
    row gives does not depend on the rows beside it, samples included.

    Args:
        model: A `Transformer`.
        source_ids: Integer tensor `(B, S)`, each row ended by the end token and padded with 0.
        options: `GenerationOptions`.
        prefix_ids: Integer tensor `(B, P)`: tokens that each target has to begin with, padded with
            0; None for none.
        seeds: Integer tensor `(B,)` in place of the seed of `options`, one a row.
        jit_compile: Whether XLA compiles the encoder and the steps. It takes seconds for every new
            shape, of which there are few: the numbers of rows and source tokens are rounded up to
            powers of two. TensorFlow only.

    Returns:
        Tuple of the target ids `(B, T)`, int32, ended by the end token and padded with 0, and
        their scores `(B,)`, float32: the sum of the tokens' log-probabilities, which beam search
        divides by the length penalty. With `num_hypotheses` N > 1 the shapes are `(B, N, T)` and
        `(B, N)`, best first.
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


def make_search(model, options=GREEDY, jit_compile=False):
    """Make the `Search` over a model's decoder; arguments as for `generate`."""

    def step(ids, cache, index, visible):
        logits, caches = model.decoder_step(
            (ids, index, cache["target"], visible, cache["memory_bias"], cache["memory"])
        )
        return logits, {**cache, "target": caches}

    def make_room(cache, slots):
        return {**cache, "target": model.grow_caches(cache["target"], slots)}

    return Search(step, BEGIN_ID, END_ID, PADDING_ID, options, make_room, jit_compile)


def encode(model, source_ids, options=GREEDY, prefix_ids=None, seeds=None, jit_compile=False):
    """Encode sources; arguments as for `generate`.

    Returns:
        Dict of the arguments of `Search.run` and `Search.start`.
    """
    source_ids = ops.cast(source_ids, "int32")
    lengths = ops.sum(ops.cast(padding_mask(source_ids, PADDING_ID), "int32"), axis=1)
    most = model.config.max_length
    if options.max_length is not None:
        longest = min(most, options.max_length)
        limits = ops.full_like(lengths, longest)
    else:
        limits = ops.minimum(lengths + EXTRA_LENGTH, most)
        longest = ops.shape(source_ids)[1] + EXTRA_LENGTH  # a number, or a tensor inside a graph
        longest = min(longest, most) if isinstance(longest, int) else ops.minimum(longest, most)
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
        # One token is the end token alone: there is nothing to translate.
        "finished": lengths <= 1,
        "prefix": prefix_ids,
        "seeds": seeds,
    }


def next_token_probabilities(model, source_ids, target_ids):
    """Compute the distribution of the token that follows each target prefix.

    Args:
        model: A `Transformer`.
        source_ids: Integer tensor `(B, S)`, ended by the end token and padded with 0.
        target_ids: Integer tensor `(B, T)`: prefixes, beginning with the begin token and padded
            with 0.

    Returns:
        Float32 tensor `(B, V)`; each row sums to 1.
    """
    # Both as tensors: a model refuses a mixture of tensors and arrays.
    source_ids, target_ids = ops.cast(source_ids, "int32"), ops.cast(target_ids, "int32")
    logits = model({"source_ids": source_ids, "target_ids": target_ids}, training=False)
    count = ops.sum(ops.cast(padding_mask(target_ids, PADDING_ID), "int32"), axis=1)
    length = ops.shape(target_ids)[1]
    last = ops.arange(ops.size(count), dtype="int32") * length + ops.maximum(count - 1, 0)
    logits = ops.take(ops.reshape(logits, (-1, logits.shape[-1])), last, axis=0)
    return ops.softmax(ops.cast(logits, "float32"), axis=-1)


def score(model, source_ids, target_ids):
    """Compute the log-probabilities of given targets, in one teacher-forced pass.

    Args:
        model: A `Transformer`.
        source_ids: Integer tensor `(B, S)`, ended by the end token and padded with 0.
        target_ids: Integer tensor `(B, T)`, without the begin token, ended by the end token and
            padded with 0.

    Returns:
        Float32 tensor `(B, T)`: the log-probability of each token, 0 at padding. Its sum over a
        row is what greedy search gives as score.
    """
    logits = model(_teacher_forced(source_ids, target_ids), training=False)
    shares = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)  # (B, T, V)
    target_ids = ops.cast(target_ids, "int32")
    numbers = ops.arange(ops.size(target_ids), dtype="int32") * shares.shape[-1]
    places = ops.reshape(target_ids, (-1,)) + numbers
    chosen = ops.reshape(ops.take(ops.reshape(shares, (-1,)), places), ops.shape(target_ids))
    return ops.where(padding_mask(target_ids, PADDING_ID), chosen, 0.0)


def align(model, source_ids, target_ids):
    """Say which source tokens each target token attends to, the mean of all heads of all blocks.

    Args:
        model: A `Transformer`.
        source_ids: Integer tensor `(B, S)`, ended by the end token and padded with 0.
        target_ids: Integer tensor `(B, T)`, without the begin token, ended by the end token and
            padded with 0.

    Returns:
        Float32 tensor `(B, T, S)`. Row t belongs to the position that predicts target token t, and
        sums to 1.

    Reference: Bahdanau et al. 2015, section 5.2.1, for reading attention as alignment.
    """
    weights = cross_attention(model, source_ids, target_ids)
    return ops.mean(weights, axis=(1, 2))


def cross_attention(model, source_ids, target_ids):
    """Say which source tokens each target token attends to, in every head of every block.

    Args:
        model: A `Transformer`.
        source_ids: As for `align`.
        target_ids: As for `align`.

    Returns:
        Float32 tensor `(B, L, H, T, S)`, L the number of blocks. Each row sums to 1.
    """
    maps = attention_maps(model, _teacher_forced(source_ids, target_ids))["cross"]
    return ops.stack(maps, axis=1)


def _teacher_forced(source_ids, target_ids):
    """Return the model's inputs: the target is shifted right behind the begin token."""
    # Both as tensors: a model refuses a mixture of tensors and arrays.
    source_ids, target_ids = ops.cast(source_ids, "int32"), ops.cast(target_ids, "int32")
    begin = ops.full_like(target_ids[:, :1], BEGIN_ID)
    shifted = ops.concatenate([begin, target_ids[:, :-1]], axis=1)
    return {"source_ids": source_ids, "target_ids": shifted}
