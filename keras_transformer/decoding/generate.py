"""Generation: what ties a model to a search."""

from keras import ops

from keras_transformer.decoding.search import greedy_search
from keras_transformer.layers import padding_mask
from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID

# The paper's bound: an output is at most this much longer than its source (section 6.1).
EXTRA_LENGTH = 50


def generate(model, source_ids):
    """Generate the target of each source by greedy search.

    The source is encoded once; the target's keys and values go into caches that are allocated
    once. A row without any token gets an empty target. What a row gives does not depend on the
    rows beside it.

    Args:
        model: A `Transformer`.
        source_ids: Integer tensor `(B, S)`, each row ended by the end token and padded with 0.

    Returns:
        Tuple of the target ids `(B, T)`, int32, ended by the end token and padded with 0, and
        their scores `(B,)`, float32: the sum of the tokens' log-probabilities.
    """
    lengths = ops.sum(ops.cast(padding_mask(source_ids, PADDING_ID), "int32"), axis=1)
    limits = ops.minimum(lengths + EXTRA_LENGTH, model.config.max_length)
    longest = ops.shape(source_ids)[1] + EXTRA_LENGTH  # a number, or a tensor inside a graph
    shorter = min if isinstance(longest, int) else ops.minimum
    max_length = shorter(longest, model.config.max_length)
    source_mask, memory_caches = model.encoder(source_ids)

    def step(ids, caches, index):
        return model.decoder_step((ids, index, caches, source_mask, memory_caches))

    return greedy_search(
        step,
        model.empty_caches(ops.shape(source_ids)[0], max_length),
        limits,
        max_length,
        begin_id=BEGIN_ID,
        end_id=END_ID,
        padding_id=PADDING_ID,
        # One token is the end token alone: there is nothing to translate.
        finished=lengths <= 1,
    )


def next_token_probabilities(model, source_ids, target_ids):
    """Compute the distribution of the token that follows each target prefix.

    Args:
        model: A `Transformer`.
        source_ids: Integer tensor `(B, S)`, ended by the end token and padded with 0.
        target_ids: Integer tensor `(B, T)`: prefixes of one length, beginning with the begin
            token.

    Returns:
        Float32 tensor `(B, V)`; each row sums to 1.
    """
    logits = model({"source_ids": source_ids, "target_ids": target_ids}, training=False)
    return ops.softmax(ops.cast(logits[:, -1], "float32"), axis=-1)
