"""Text: learning a vocabulary, and tokenising inside the graph."""

from keras_transformer._lazy import load_lazily

__getattr__, __dir__, __all__ = load_lazily(
    __name__,
    {
        "AddedToken": "keras_transformer.text.added_tokens",
        "BertTokenizer": "keras_transformer.text.bert",
        "BytePairTokenizer": "keras_transformer.text.byte_pairs",
        "CharacterTokenizer": "keras_transformer.text.characters",
        "SPECIAL_TOKENS": "keras_transformer.text.learner",
        "SentencePieceTokenizer": "keras_transformer.text.sentencepiece",
        "Tokenizer": "keras_transformer.text.storage",
        "WordPieceTokenizer": "keras_transformer.text.wordpiece",
        "WordTokenizer": "keras_transformer.text.words",
        "bpe_compress": "keras_transformer.text.compression",
        "bpe_decompress": "keras_transformer.text.compression",
        "compare_tokenizers": "keras_transformer.text.comparison",
        "learn_bert_vocabulary": "keras_transformer.text.bert_learner",
        "learn_byte_pairs": "keras_transformer.text.byte_pair_learner",
        "learn_characters": "keras_transformer.text.characters",
        "learn_vocabulary": "keras_transformer.text.learner",
        "learn_words": "keras_transformer.text.words",
        "load_tokenizer": "keras_transformer.text.storage",
        "save_tokenizer": "keras_transformer.text.storage",
    },
)
