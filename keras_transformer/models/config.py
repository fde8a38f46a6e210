"""The configuration of a model: one frozen dataclass a family, enough to rebuild the model."""

import dataclasses
from typing import Any, Literal

from keras_transformer.errors import InputError

# The ids that every vocabulary of this package begins with.
PADDING_ID, UNKNOWN_ID, BEGIN_ID, END_ID = range(4)


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Everything that decides the shape and behaviour of an encoder-decoder Transformer.

    The defaults are the paper's base model. Dropout has four rates: the paper has the first two,
    the last two are extras of later implementations and are off.

    Raises:
        InputError: If a value is out of its range; the message names it.

    Reference: Vaswani et al. 2017, "Attention Is All You Need".
    """

    vocabulary_size: int  # V, shared by source and target
    num_layers: int = 6  # N, in the encoder and again in the decoder
    num_heads: int = 8  # H
    d_model: int = 512  # D, width of every position
    d_ff: int = 2048  # width inside the feed-forward network
    activation: str = "relu"  # of the feed-forward network
    dropout: float = 0.1  # on the output of every sub-layer
    embedding_dropout: float = 0.1  # on embeddings plus positions
    attention_dropout: float = 0.0  # on attention weights
    ffn_dropout: float = 0.0  # on the feed-forward's hidden layer
    norm_first: bool = False  # pre-norm; False is the paper's post-norm
    layer_norm_epsilon: float = 1e-6  # Keras's own 1e-3 is too large for small activations
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    max_length: int = 256  # positions in source and in target, end token included
    scale_embeddings: bool = True  # multiply embeddings by sqrt(D)
    tie_embeddings: bool = True  # one table for source, target and logits
    recompute: bool = False  # in training, compute a block's activations again, don't keep them

    def __post_init__(self):
        """Refuse values that can't make a model."""
        for name in ("num_layers", "num_heads", "d_model", "d_ff"):
            self._check(name, getattr(self, name) >= 1, "must be at least 1")
        self._check(
            "vocabulary_size",
            self.vocabulary_size > END_ID,
            f"must be larger than {END_ID}, for the special tokens take ids 0 to {END_ID}",
        )
        self._check("max_length", self.max_length >= 2, "must be at least 2")
        if self.d_model % self.num_heads:
            raise InputError(
                f"d_model must be a multiple of num_heads, got d_model={self.d_model} and "
                f"num_heads={self.num_heads}."
            )
        for name in ("dropout", "embedding_dropout", "attention_dropout", "ffn_dropout"):
            self._check(name, 0 <= getattr(self, name) < 1, "must be in [0, 1)")
        self._check("layer_norm_epsilon", self.layer_norm_epsilon > 0, "must be positive")
        self._check(
            "positions",
            self.positions in ("sinusoidal", "learned"),
            "must be 'sinusoidal' or 'learned'",
        )
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise InputError(f"Sinusoidal positions need an even d_model, got {self.d_model}.")

    def _check(self, name, holds, rule):
        if not holds:
            raise InputError(f"{name} {rule}, got {getattr(self, name)!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "TransformerConfig":
        """Rebuild the configuration that `to_dict` wrote.

        Raises:
            InputError: If a field is unknown or missing.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise InputError(f"Unknown fields in the model's configuration: {', '.join(unknown)}.")
        if "vocabulary_size" not in fields:
            raise InputError("The model's configuration has no vocabulary_size.")
        return cls(**fields)

    @classmethod
    def preset(cls, name: str, vocabulary_size: int, **changes: Any) -> "TransformerConfig":
        """Return a named configuration, with `changes` applied.

        Args:
            name: One of `PRESETS`: "tiny", "small", "base" or "big".
            vocabulary_size: Number of tokens V.
            **changes: Fields to set otherwise than the preset does.

        Raises:
            InputError: If there is no such preset.
        """
        if name not in PRESETS:
            raise InputError(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
        return cls(vocabulary_size=vocabulary_size, **{**PRESETS[name], **changes})


PRESETS: dict[str, dict[str, Any]] = {
    # 4+4 layers, for small corpora and phones (Wu et al. 2021 on Multi30k).
    "tiny": {"num_layers": 4, "num_heads": 4, "d_model": 128, "d_ff": 256},
    "small": {"num_layers": 4, "num_heads": 4, "d_model": 256, "d_ff": 1024},
    # The paper's two models.
    "base": {},
    "big": {
        "num_heads": 16,
        "d_model": 1024,
        "d_ff": 4096,
        "dropout": 0.3,
        "embedding_dropout": 0.3,
    },
}
