"""Texts to vectors that are near where meanings are."""

from collections.abc import Mapping
from typing import Any

from keras_transformer.models.heads import SentenceEncoder
from keras_transformer.pipelines.text_encoder import TextEncoder
from keras_transformer.text.prefix import PREFIX_OPS, prefixed
from keras_transformer.typing import Ids, Strings, Tensor, Tensors


class SentenceEmbedder(TextEncoder):
    """Text to one vector.

    Args:
        model: A `SentenceEncoder`.
        tokenizer: The tokeniser that the model was trained with.
        max_length: Most tokens of a text, special tokens included; the model's if None.
        prompt: What is put before each text, such as "query: "; in what takes pieces it has to be
            among them, as `tokenize` puts it.
        prompts: Prompts that the model knows, by name, for a person to choose from.

    Example:
        embedder = SentenceEmbedder(model, tokenizer)
        embedder.call("serving_default", text=["Two young men."])["embedding"]
    """

    model_class = SentenceEncoder
    task = "embedding"
    gives = "embedding"
    numbers = "embedding"

    def __init__(
        self,
        model: SentenceEncoder,
        tokenizer: Any = None,
        max_length: int | None = None,
        prompt: str = "",
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        self.prompt = prompt
        self.prompts = dict(prompts or {})
        if prompt:
            self.more_ops = PREFIX_OPS
        super().__init__(model, tokenizer, max_length)

    def _pieces(self, text: Strings) -> Ids:
        return super()._pieces(prefixed(text, self.prompt) if self.prompt else text)

    @property
    def description(self) -> str:
        """The purpose of the model in a sentence."""
        what = (
            "Gives a text a vector, so that texts of like meaning have vectors of like direction."
        )
        return f"{what} Before each text stands {self.prompt!r}." if self.prompt else what

    def answer(self, outputs: Tensor) -> Tensors:
        """Name the vector.

        Args:
            outputs: Float32 tensor `(B, D)`.

        Returns:
            Dict of `embedding`, float32 `(B, D)`.
        """
        return {"embedding": outputs}
