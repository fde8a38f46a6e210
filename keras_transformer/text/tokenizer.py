"""The base of all tokenisers: they are learned from lines, called, saved and loaded."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from keras_transformer._tensorflow import tf
from keras_transformer.text.added_tokens import AddedTokens
from keras_transformer.text.batches import takes_ids, takes_texts
from keras_transformer.text.joining import Joiner


class Tokenizer:
    """Turns text into ids and back, in the graph.

    Subclasses set what is below and what joins pieces, `_joiner`, and write `_cut`, `save` and
    `load`; those that can be learned write `_learn`.

    Attributes:
        kind: Name of the kind.
        file: Name of its file in a run folder.
        custom_ops: Ops of tf.text that are in the graph.
        vocabulary: The pieces in the order of their ids.
        padding_id: Fills up rows.
        unknown_id: Stands for what can't be spelled.
        begin_id: Begins a text.
        end_id: Ends a text.
        mask_id: Stands for a hidden piece. A published vocabulary may lack any of these: None.
    """

    kinds: ClassVar[dict[str, type["Tokenizer"]]] = {}  # by name
    kind: ClassVar[str]
    file: ClassVar[str]
    custom_ops: frozenset[str]
    vocabulary: list[str]
    padding_id: Any
    unknown_id: Any
    begin_id: Any
    end_id: Any
    mask_id: Any
    _added: AddedTokens | None = None  # found in a text before it is cut
    _joiner: Joiner

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in vars(cls):
            Tokenizer.kinds[cls.kind] = cls

    def __len__(self) -> int:
        """Return the number of pieces V."""
        return len(self.vocabulary)

    def __call__(self, texts: Any) -> Any:
        """Cut texts into pieces; see `tokenize`."""
        return self.tokenize(texts)

    @classmethod
    def learn(
        cls,
        lines: Iterable[str],
        size: int,
        *,
        with_mask: bool = False,
        progress: bool = False,
        **options: Any,
    ) -> Self:
        """Learn a tokeniser from text; `Tokenizer.learn` itself learns a `WordPieceTokenizer`.

        Args:
            lines: The text, read once.
            size: Number of pieces V.
            with_mask: Whether the mask is one of the special tokens, as models of BERT's kind want
                it. BERT's own tokeniser always has it.
            progress: Whether to show progress on standard error.
            **options: What else the kind takes; see the function that learns it, such as
                `learn_vocabulary`.

        Raises:
            TypeError: If `lines` is one string, or the kind can't be learned.
            ValueError: If nothing can be learned.

        Example:
            tokenizer = kt.text.WordPieceTokenizer.learn(lines, 8000)
            tokenizer(["Two young men."])
        """
        chosen: type[Any] = cls.kinds["wordpiece"] if cls is Tokenizer else cls
        if isinstance(lines, str):
            raise TypeError("lines is one string; give an iterable of strings, such as a list.")
        return chosen._learn(lines, size, with_mask=with_mask, progress=progress, **options)

    @classmethod
    def _learn(cls, *args: Any, **options: Any) -> Self:
        raise TypeError(f"A {cls.__name__} can't be learned here; load a published one.")

    @takes_texts
    def tokenize(self, text: Any) -> tf.RaggedTensor:
        """Cut text into pieces.

        Args:
            text: String tensor `(B,)`, UTF-8, or one text.

        Returns:
            Ragged int32 tensor `(B, (S))` without special tokens; empty rows for empty text.
            One text gives one row, an int32 vector `(S,)`.
        """
        return self._cut(text) if self._added is None else self._added.cut(text, self._cut)

    def _cut(self, text: Any) -> tf.RaggedTensor:
        """Cut texts `(B,)` in which no added token occurs."""
        raise NotImplementedError

    @takes_ids
    def detokenize(self, ids: Any) -> tf.Tensor:
        """Join pieces to text.

        Args:
            ids: Ragged or dense integer tensor `(B, T)`. Special tokens other than the unknown one
                are left out. What is no id of a piece is written as an unknown one.

        Returns:
            String tensor `(B,)`.
        """
        return self._joiner.join(ids)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `load` besides the file."""
        return {}

    def save(self, path: Path | str) -> None:
        """Write the vocabulary, one piece a line, in the order of ids."""
        write_pieces(path, self.vocabulary)

    @classmethod
    def load(cls, path: Any, *args: Any, **settings: Any) -> Self:
        """Read what `save` wrote.

        Args:
            path: What was written.
            *args: Nothing; settings are given by name.
            **settings: What `settings` was.

        Raises:
            OSError: If a file can't be read.
            ValueError: If it is no vocabulary of this kind.
        """
        raise NotImplementedError


def read_pieces(path: Path | str) -> list[str]:
    """Read a file with one piece a line.

    Raises:
        OSError: If the file can't be read.
        ValueError: If it is not UTF-8.
    """
    text = Path(path).read_bytes().decode("utf-8")
    # Not splitlines(): a piece may hold a wider line separator such as U+2028.
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def write_pieces(path: Path | str, pieces: Sequence[str]) -> None:
    """Write one piece a line."""
    Path(path).write_text("".join(f"{piece}\n" for piece in pieces), "utf-8", newline="\n")
