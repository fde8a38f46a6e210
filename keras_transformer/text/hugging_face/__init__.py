"""Published tokenisers in the files of Hugging Face.

`tokenizer.json` says everything and is read where there is one; other files beside it must agree
with it. Otherwise `vocab.txt` (WordPiece), `vocab.json` with `merges.txt` (byte pairs),
`spiece.model` or `sentencepiece.bpe.model` (SentencePiece), or `source.spm` with `vocab.json`
(Marian) is read. Beside them `tokenizer_config.json`, `special_tokens_map.json`,
`added_tokens.json` and `sentence_bert_config.json` are. A field that is not understood, and has a
value other than its default, is refused by name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_transformer.text.hugging_face.model_files import read_model_files
from keras_transformer.text.hugging_face.settings import Settings
from keras_transformer.text.hugging_face.tokenizer_json import read_tokenizer_json
from keras_transformer.text.tokenizer import Tokenizer


def read_tokenizer(folder: Path | str, config: Mapping[str, Any] | None = None) -> Tokenizer:
    """Read the tokeniser that lies beside a checkpoint.

    Args:
        folder: Folder of the checkpoint.
        config: The content of its `config.json`, whose `model_type` says what a text is framed
            with.

    Returns:
        A `BertTokenizer`, `BytePairTokenizer` or `SentencePieceTokenizer`.

    Raises:
        OSError: If a file can't be read.
        ValueError: If there is none, or it is damaged or not understood; the message names the
            file and the field.
    """
    folder, config = Path(folder), config or {}
    settings = Settings.read(folder)
    if (folder / "tokenizer.json").is_file():
        return read_tokenizer_json(folder, settings, config)
    return read_model_files(folder, settings, config)
