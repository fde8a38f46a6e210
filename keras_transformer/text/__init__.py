"""Text: learning a vocabulary, and tokenising inside the graph."""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
from keras_transformer.text.added_tokens import AddedToken
from keras_transformer.text.bert import BertTokenizer
from keras_transformer.text.bert_learner import learn_bert_vocabulary
from keras_transformer.text.byte_pair_learner import learn_byte_pairs
from keras_transformer.text.byte_pairs import BytePairTokenizer
from keras_transformer.text.characters import CharacterTokenizer, learn_characters
from keras_transformer.text.comparison import compare_tokenizers
from keras_transformer.text.compression import bpe_compress, bpe_decompress
from keras_transformer.text.learner import SPECIAL_TOKENS, learn_vocabulary
from keras_transformer.text.sentencepiece import SentencePieceTokenizer
from keras_transformer.text.storage import load_tokenizer, save_tokenizer
from keras_transformer.text.tokenizer import Tokenizer
from keras_transformer.text.wordpiece import WordPieceTokenizer
from keras_transformer.text.words import WordTokenizer, learn_words

__all__ = [
    "SPECIAL_TOKENS",
    "AddedToken",
    "BertTokenizer",
    "BytePairTokenizer",
    "CharacterTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "WordPieceTokenizer",
    "WordTokenizer",
    "bpe_compress",
    "bpe_decompress",
    "compare_tokenizers",
    "learn_bert_vocabulary",
    "learn_byte_pairs",
    "learn_characters",
    "learn_vocabulary",
    "learn_words",
    "load_tokenizer",
    "save_tokenizer",
]
