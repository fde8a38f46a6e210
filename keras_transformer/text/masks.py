"""Text with a literal mask in it, such as `[MASK]`, in the graph, on every runtime.

Tokenisers never make a special id of what a text spells, so that no text can forge one. Where masks
are meant, the text is split at their name here, by comparing bytes, and each stretch between them
is cut into pieces on its own.
"""

from keras_transformer._quiet import quiet_stderr
from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.text.batches import as_batch
from keras_transformer.text.between import cut_between
from keras_transformer.text.byte_pairs import BytePairTokenizer
from keras_transformer.text.code_points import BYTE_OPS
from keras_transformer.text.slices import SLICE_OPS, owners
from keras_transformer.text.tokenizer import Tokenizer
from keras_transformer.typing import Ragged, Strings, Tensor

with quiet_stderr():
    from tensorflow_text.python.ops.byte_splitter import gen_byte_splitter

MASK_OPS = BYTE_OPS | SLICE_OPS
_SPACE = 0x20


def mask_name(tokenizer: Tokenizer) -> str:
    """Return how a tokeniser's mask is written in a text, such as `[MASK]` or `<mask>`.

    Raises:
        InputError: If the tokeniser has no mask.
    """
    if tokenizer.mask_id is None:
        raise InputError(
            f"This tokeniser ({tokenizer.kind}) has no mask in its vocabulary, such as [MASK], so "
            "that no place of a text can be masked."
        )
    return tokenizer.vocabulary[tokenizer.mask_id]


def tokenize_with_masks(tokenizer: Tokenizer, text: Strings) -> Ragged:
    """Cut text into pieces, where the name of the mask is the mask.

    Of byte pairs one space before a mask is left out, because it is a part of the piece that is to
    be found.

    Args:
        tokenizer: Any of this package's that has a mask.
        text: String tensor `(B,)`, UTF-8.

    Returns:
        Ragged int32 tensor `(B, (S))` without other special tokens.

    Raises:
        InputError: If the tokeniser has no mask.
    """
    name = mask_name(tokenizer).encode()
    split = gen_byte_splitter.tf_text_byte_split_with_offsets(input_values=as_batch(text))
    values, rows = tf.cast(split[0], tf.int32), tf.cast(split[1], tf.int32)  # (N,), (B + 1,)
    size = tf.shape(values)[0]
    which = owners(rows[:-1], size)  # the text of each byte
    masks = _find(values, which, name)  # (K,)
    of = tf.gather(which, masks)
    begins = masks - tf.gather(rows, of)  # in their texts
    ends = begins + len(name)
    if tokenizer.kind == BytePairTokenizer.kind:
        spaced = tf.equal(tf.gather(values, tf.maximum(masks - 1, 0)), _SPACE)
        begins -= tf.cast(tf.logical_and(begins > 0, spaced), tf.int32)
    tokens = tf.zeros_like(of) + tokenizer.mask_id
    return cut_between(text, rows, of, begins, ends, tokens, tokenizer.tokenize)


def _find(values: Tensor, which: Tensor, name: bytes) -> Tensor:
    """Find the places where a name begins that lies in one text: int32 `(K,)`.

    Args:
        values: Int32 `(N,)`, the bytes of all texts.
        which: Int32 `(N,)`, the text of each byte.
        name: What is looked for. It never overlaps itself, as what is in brackets does not.
    """
    size = tf.shape(values)[0]
    more = tf.zeros([len(name)], tf.int32) - 1
    values, texts = tf.concat([values, more], 0), tf.concat([which, more], 0)
    here = tf.equal(texts[len(name) - 1 : size + len(name) - 1], which)
    for i, byte in enumerate(name):
        here = tf.logical_and(here, tf.equal(values[i : size + i], byte))
    return tf.cast(tf.where(here)[:, 0], tf.int32)
