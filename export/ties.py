"""Ties: what a file may write in place of what the model writes, because rounding decides."""

from keras_transformer._tensorflow import tf
from keras_transformer.decoding import GenerationOptions
from keras_transformer.decoding.generate import EXTRA_LENGTH
from keras_transformer.pipelines.text_writer import TextWriter

# Two tokens whose log-probabilities differ by no more than this are a tie.
TIE = 1e-4


def is_tie(writer: TextWriter, source: str, target: str, score: float, expected: float) -> bool:
    """Return whether another target than expected is the work of rounding alone.

    Greedy search goes another way for good where two tokens tie. Two hypotheses of beam search tie
    by their scores. In sampling a draw may fall on the border of two tokens, and then the score has
    to be what the model gives this target.

    Args:
        writer: What was exported.
        source: What was given.
        target: What a file wrote.
        score: The file's score of it.
        expected: The score of what the model writes.
    """
    options = writer.options
    if options.samples:
        own, _, _ = writer.score([source], [target])
        return bool(abs(own[0] - score) <= 1e-3 * max(1.0, abs(score)))
    if options != GenerationOptions(max_length=options.max_length):
        return bool(abs(score - expected) <= TIE)
    return _is_greedy_tie(writer, source, target)


def _is_greedy_tie(writer: TextWriter, source: str, target: str) -> bool:
    """Return whether `target` is what greedy search gives if ties are broken otherwise."""
    config = writer.model.config
    if getattr(writer.model, "continues", False):
        target = target.removeprefix(source)
    logits, labels, width = writer.teacher_forced([source], [target])
    chosen = tf.gather(logits, labels, batch_dims=2)  # (1, T)
    gap = tf.reduce_max(logits, axis=-1) - chosen
    limit = writer.options.max_length or width + EXTRA_LENGTH
    if labels.shape[1] >= min(limit, writer.max_length):  # the length limit may have ended it
        gap = tf.where(labels == config.end_id, 0.0, gap)
    return bool(tf.reduce_all(gap <= TIE))
