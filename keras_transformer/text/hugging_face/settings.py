"""Settings beside the vocabulary: special tokens, added tokens and the treatment of text."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_transformer.text.added_tokens import AddedToken
from keras_transformer.text.hugging_face.fields import Fields

# The names under which special tokens stand, by role; the first that is there counts.
ROLES = {
    "padding": ("pad_token",),
    "unknown": ("unk_token",),
    "begin": ("cls_token", "bos_token"),
    "end": ("sep_token", "eos_token"),
    "mask": ("mask_token",),
}
_NAMES = tuple(name for names in ROLES.values() for name in names)
# Fields that change no ids of a text: where files are, lengths, padding, what is returned, how ids
# become text again, and what is put around texts by others.
_HARMLESS = (
    *("tokenizer_class", "backend", "processor_class", "name_or_path", "is_local", "verbose"),
    *("tokenizer_file", "vocab_file", "merges_file", "special_tokens_map_file", "cache_dir"),
    *("full_tokenizer_file", "from_slow", "use_fast", "local_files_only", "init_inputs"),
    *(
        "model_max_length",
        "max_length",
        "max_len",
        "max_seq_length",
        "stride",
        "padding",
        "padding_side",
    ),
    *("truncation", "truncation_side", "truncation_strategy", "pad_to_multiple_of"),
    *("pad_token_type_id", "pad_token_id", "model_input_names", "return_token_type_ids"),
    *("clean_up_tokenization_spaces", "spaces_between_special_tokens", "trim_offsets", "errors"),
    *("chat_template", "tokenizer_type", "transformers_version"),
)
_CLASSES = (
    *("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"),
    *("MPNetTokenizer", "RobertaTokenizer", "BartTokenizer", "GPT2Tokenizer", "T5Tokenizer"),
    *("XLMRobertaTokenizer", "MarianTokenizer", "PreTrainedTokenizer", "TokenizersBackend"),
)


@dataclasses.dataclass
class Settings:
    """The settings of a tokeniser.

    Args:
        roles: Names of special tokens by role, as far as files name them.
        special: All names of special tokens that have a role in Hugging Face's sense.
        added: Added tokens by content, those with a role included.
        ids: Their ids, where the files say them.
        fields: What is left of `tokenizer_config.json`, for the kind of tokeniser to take.
        lowercase: What `sentence_bert_config.json` says about lower case.
        guessed: Names of added tokens of which no file said yet how they are looked for.
    """

    roles: dict[str, str]
    special: set[str]
    added: dict[str, AddedToken]
    ids: dict[str, int]
    fields: Fields
    lowercase: bool
    guessed: set[str] = dataclasses.field(default_factory=set)

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        """Read the files of a folder; each may be missing.

        Raises:
            OSError: If a file can't be read.
            ValueError: If one is damaged, has a field that is not understood, or contradicts
                another.
        """
        fields = Fields.of_file(folder / "tokenizer_config.json")
        name = fields.take("tokenizer_class", str, "")
        if name and name.removesuffix("Fast") not in _CLASSES:
            raise ValueError(
                f"{fields.where}: tokenizer_class is {name!r}, which is not supported; supported "
                f"are {', '.join(_CLASSES)}, and their fast forms."
            )
        fields.ignore(*_HARMLESS)
        fields.expect("split_special_tokens", False)
        settings = cls({}, set(), {}, {}, fields, _reads_lowercase(folder))
        names: dict[str, str] = {}
        settings._take_special(fields, names)
        more = Fields.of_file(folder / "special_tokens_map.json")
        settings._take_special(more, names)
        more.done()
        for role, candidates in ROLES.items():
            if found := [names[name] for name in candidates if name in names]:
                settings.roles[role] = found[0]
        settings.special = set(names.values())
        decoder = fields.take("added_tokens_decoder", dict, {})
        for key, entry in decoder.items():
            where = f"{fields.where}: added_tokens_decoder: {key}"
            if not key.isdecimal():
                raise ValueError(f"{where} is no id.")
            settings.add(read_token(where, entry), int(key), where)
        settings._take_added_file(folder / "added_tokens.json")
        return settings

    def add(self, token: AddedToken, number: int | None, where: str) -> None:
        """Note an added token.

        Raises:
            ValueError: If another file says something else about it.
        """
        name = token.content
        known = self.added.get(name)
        sure = known is not None and name not in self.guessed and name not in self.special
        if sure and known != token:
            raise ValueError(f"{where}: {name!r} is {token}, but another file says {known}.")
        if number is not None and self.ids.setdefault(name, number) != number:
            raise ValueError(
                f"{where}: {name!r} has the id {number}, but {self.ids[name]} in another file."
            )
        self.added[name] = token
        self.guessed.discard(name)

    def _guess(self, token: AddedToken, number: int | None, where: str) -> None:
        """Note an added token whose file says nothing but its name."""
        name = token.content
        sure = name in self.added and name not in self.guessed
        self.add(self.added.get(name, token), number, where)
        if not sure:
            self.guessed.add(name)

    def keep_case(self) -> None:
        """Make sure that no file wants lower case.

        Raises:
            ValueError: If one does.
        """
        if self.lowercase or self.fields.take("do_lower_case", bool, False):
            raise ValueError("do_lower_case is true, which is supported with WordPiece alone.")

    def _take_special(self, source: Fields, names: dict[str, str]) -> None:
        for name in _NAMES:
            value = source.take(name, (str, dict), None)
            if value is None:
                continue
            content = value if isinstance(value, str) else _content(source.where, name, value)
            if names.setdefault(name, content) != content:
                raise ValueError(
                    f"{source.where}: {name} is {content!r}, but {names[name]!r} in "
                    "tokenizer_config.json."
                )
        for name in ("additional_special_tokens", "extra_special_tokens"):
            more = source.take(name, (list, dict), [])
            for value in more.values() if isinstance(more, dict) else more:
                where = f"{source.where}: {name}"
                if isinstance(value, str):
                    self._guess(AddedToken(value), None, where)
                else:
                    self.add(read_token(where, value), None, where)

    def _take_added_file(self, path: Path) -> None:
        fields = Fields.of_file(path)
        for name in list(fields):
            number = fields.take(name, int)
            self._guess(AddedToken(name, normalized=name not in self.special), number, path.name)

    def found(self, special: Mapping[str, str], ids: Mapping[str, int]) -> list[AddedToken]:
        """Return the added tokens that are to be found in texts, in the order of their ids.

        Args:
            special: The special tokens of the tokeniser, by role.
            ids: The id of each entry of its vocabulary.

        Raises:
            ValueError: If one has no id, or another one than the files say.
        """
        names = [n for n in self.added if n not in self.special and n not in special.values()]
        for name in self.added:
            if name not in ids and name in names:
                raise ValueError(f"the added token {name!r} has no id in any file.")
            if name in self.ids and self.ids[name] != ids.get(name):
                raise ValueError(
                    f"the added token {name!r} has the id {self.ids[name]}, but the vocabulary "
                    f"has {ids.get(name)}."
                )
        return [self.added[name] for name in sorted(names, key=lambda name: ids[name])]

    def extended(self, pieces: list[str]) -> list[str]:
        """Put added tokens behind the pieces of a vocabulary, each at its id.

        Raises:
            ValueError: If an id is taken or left out.
        """
        more = {number: name for name, number in self.ids.items() if number >= len(pieces)}
        for name, number in self.ids.items():
            if more.get(number, name) != name or (number < len(pieces) and pieces[number] != name):
                other = more.get(number) or pieces[number]
                raise ValueError(f"the added token {name!r} has the id {number} of {other!r}.")
        made = [*pieces, *(more[number] for number in sorted(more))]
        for number in more:
            if number >= len(made):
                raise ValueError(
                    f"the added token {more[number]!r} has the id {number}, but there are only "
                    f"{len(made):,} pieces: ids are left out."
                )
        return made


def read_token(where: str, entry: Any) -> AddedToken:
    """Read an added token as `tokenizer.json` and `added_tokens_decoder` have it."""
    fields = Fields(where, entry)
    fields.ignore("id", "special", "__type")
    flags = {
        name: fields.take(name, bool, default)
        for name, default in (
            ("lstrip", False),
            ("rstrip", False),
            ("single_word", False),
            ("normalized", True),
        )
    }
    token = AddedToken(fields.take("content", str), **flags)
    fields.done()
    return token


def _content(where: str, name: str, value: Any) -> str:
    return read_token(f"{where}: {name}", value).content


def _reads_lowercase(folder: Path) -> bool:
    fields = Fields.of_file(folder / "sentence_bert_config.json")
    lowercase = fields.take("do_lower_case", bool, False)
    # The model's, not the tokeniser's.
    fields.ignore("max_seq_length", "modality_config", "module_output_name", "unpad_inputs")
    fields.expect("transformer_task", "feature-extraction", None)
    for name in ("processing_kwargs", "model_args", "tokenizer_args", "config_args"):
        fields.expect(name, {}, None)
    fields.done()
    return lowercase
