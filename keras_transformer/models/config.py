"""The configuration of a model: one frozen dataclass a family, enough to rebuild the model.

`StackConfig` has what all families share; each family's own is in the file of its model.
"""

import dataclasses
import numbers
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, get_args

from keras_transformer.errors import InputError, no_such, suggestion
from keras_transformer.layers.attentions import ATTENTIONS, DOT_PRODUCT
from keras_transformer.layers.norms import NORMS
from keras_transformer.layers.relative_positions import check_buckets

# The ids that every vocabulary learned by this package begins with.
PADDING_ID, UNKNOWN_ID, BEGIN_ID, END_ID = range(4)

Positions = Literal[
    "sinusoidal", "learned", "rotary", "alibi", "buckets", "shaw", "transformer-xl", "none"
]
POSITIONS = get_args(Positions)
RELATIVE = ("rotary", "alibi", "buckets")  # what a stack turns into a rotation or a bias
# What the values of fields are, by their annotation: a class, and in words.
KINDS: dict[type, tuple[type, str]] = {
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    bool: (bool, "True or False"),
    str: (str, "a text"),
}


class KindError(InputError):
    """The value of a field is of another kind than it has to be, such as a text for a number."""


@dataclasses.dataclass(frozen=True)
class StackConfig:
    """The configuration of a stack of blocks, which every family has.

    Dropout has four rates: the Transformer's paper has the first two, BERT and GPT also the third,
    the last is an extra of later implementations.

    Raises:
        InputError: If a value is out of its range; the message names it.
    """

    family: ClassVar[str]
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    causal: ClassVar[bool] = True  # whether a stack of the family sees only what came before

    vocabulary_size: int  # V
    num_layers: int = 6  # N
    num_heads: int = 8  # H
    d_model: int = 512  # D, width of every position
    d_ff: int = 2048  # width inside the feed-forward network
    activation: str = "relu"  # of the feed-forward network; "gelu" is erf's, "gelu_tanh" is tanh's
    dropout: float = 0.1  # on the output of every sub-layer
    embedding_dropout: float = 0.1  # on embeddings plus positions
    attention_dropout: float = 0.0  # on attention weights
    ffn_dropout: float = 0.0  # on the feed-forward's hidden layer
    norm_first: bool = False  # pre-norm; False is the paper's post-norm
    layer_norm_epsilon: float = 1e-6  # Keras's own 1e-3 is too large for small activations
    positions: Positions = "sinusoidal"
    max_length: int = 256  # positions in a sequence, special tokens included
    scale_embeddings: bool = True  # multiply embeddings by sqrt(D)
    tie_embeddings: bool = True  # one table for tokens that go in and for logits
    recompute: bool = False  # in training, compute a block's activations again, don't keep them
    norm: str = "layer"  # or "rms", or "batch", the contrast
    gated: bool = False  # a gate in the feed-forward: with "silu" it is SwiGLU
    use_bias: bool = True  # in attention and feed-forward
    head_width: int | None = None  # d_k; None for D / H
    num_kv_heads: int | None = None  # heads of keys and values that query heads share; None for H
    attention: str = DOT_PRODUCT  # or another name of `layers.ATTENTIONS`, such as "additive"
    norm_embeddings: bool = False  # a norm on embeddings plus positions
    share_layers: bool = False  # one block for all layers, as in ALBERT
    num_buckets: int = 32  # of positions "buckets"
    max_distance: int = 128  # of positions "buckets", and of "shaw"
    padding_id: int = PADDING_ID
    begin_id: int = BEGIN_ID  # what generation starts from; [CLS] in BERT
    end_id: int = END_ID  # [SEP] in BERT

    def __post_init__(self) -> None:
        """Refuse values that can't make a model."""
        self._check_kinds()
        for name in ("num_layers", "num_heads", "d_model", "d_ff", "num_buckets", "max_distance"):
            self._check(name, getattr(self, name) >= 1, "must be at least 1")
        self._check("vocabulary_size", self.vocabulary_size > 1, "must be larger than 1")
        special = max(self.padding_id, self.begin_id, self.end_id)
        self._check(
            "vocabulary_size",
            self.vocabulary_size > special,
            f"must be larger than {special}, the highest id of a special token",
        )
        self._check("max_length", self.max_length >= 2, "must be at least 2")
        if self.head_width is None and self.d_model % self.num_heads:
            raise InputError(
                f"d_model must be a multiple of num_heads, got d_model={self.d_model} and "
                f"num_heads={self.num_heads}."
            )
        for name in ("dropout", "embedding_dropout", "attention_dropout", "ffn_dropout"):
            self._check(name, 0 <= getattr(self, name) < 1, "must be in [0, 1)")
        self._check("layer_norm_epsilon", self.layer_norm_epsilon > 0, "must be positive")
        for name, choices in (
            ("positions", POSITIONS),
            ("norm", NORMS),
            ("attention", ATTENTIONS),
        ):
            if getattr(self, name) not in choices:  # to list them takes time
                near = suggestion(getattr(self, name), choices)
                self._check(name, False, f"must be one of {', '.join(choices)}", near)
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise InputError(f"Sinusoidal positions need an even d_model, got {self.d_model}.")
        if self.positions == "buckets":
            check_buckets(self.num_buckets, self.max_distance, bidirectional=True)
            if self.causal:
                check_buckets(self.num_buckets, self.max_distance, bidirectional=False)
        if self.positions == "rotary" and self.key_width % 2:
            raise InputError(f"Rotary positions need an even head_width, got {self.key_width}.")
        groups = self.num_kv_heads
        self._check(
            "num_kv_heads",
            groups is None or (groups >= 1 and self.num_heads % groups == 0),
            f"must divide num_heads={self.num_heads}",
        )
        special_attentions = [
            name
            for name, used in (
                (f"positions={self.positions!r}", self.positions in ("shaw", "transformer-xl")),
                (f"num_kv_heads={groups}", groups is not None),
                (f"attention={self.attention!r}", self.attention != DOT_PRODUCT),
            )
            if used
        ]
        if ATTENTIONS[self.attention].needs_distance and self.positions in RELATIVE:
            special_attentions.append(f"positions={self.positions!r}")
        if len(special_attentions) > 1:
            raise InputError(f"{' and '.join(special_attentions)} can't be combined.")

    def _check_kinds(self) -> None:
        """Refuse values that are of another kind than their fields' annotations say."""
        for field in dataclasses.fields(self):
            several = isinstance(field.type, UnionType)
            allowed = get_args(field.type) if several else (field.type,)
            value = getattr(self, field.name)
            for kind, (cls, words) in KINDS.items():
                if kind in allowed and not (value is None and NoneType in allowed):
                    # To Python, True is a whole number.
                    fits = isinstance(value, cls) and isinstance(value, bool) == (kind is bool)
                    if not fits:
                        raise KindError(f"{field.name} must be {words}, got {value!r}.")

    def _check(self, name: str, holds: bool, rule: str, more: str = "") -> None:
        if not holds:
            raise InputError(f"{name} {rule}, got {getattr(self, name)!r}.{more}")

    @property
    def key_width(self) -> int:
        """The width d_k of a head."""
        return self.head_width or self.d_model // self.num_heads

    @property
    def longest(self) -> int:
        """The most positions of a sequence."""
        return self.max_length

    def special_ids(self, tokenizer: Any) -> dict[str, Any]:
        """Return the fields that a tokeniser decides: the ids of special tokens."""
        return {name: getattr(tokenizer, name) for name in ("padding_id", "begin_id", "end_id")}

    def to_dict(self) -> dict[str, Any]:
        """Return the family and the fields as plain values, ready for JSON."""
        return {"family": self.family, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Rebuild the configuration that `to_dict` wrote.

        Raises:
            InputError: If a field is unknown or missing.
        """
        fields = {name: value for name, value in fields.items() if name != "family"}
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(map(str, set(fields) - known)):
            raise InputError(
                f"Unknown fields in the model's configuration: {', '.join(unknown)}."
                f"{suggestion(unknown[0], known)}"
            )
        if "vocabulary_size" not in fields:
            raise InputError("The model's configuration has no vocabulary_size.")
        return cls(**fields)

    @classmethod
    def preset(cls, name: str, vocabulary_size: int | None = None, **changes: Any) -> Self:
        """Return a named configuration, with `changes` applied.

        Args:
            name: One of `presets`.
            vocabulary_size: Number of tokens V; the published one if None.
            **changes: Fields to set otherwise than the preset does.

        Raises:
            InputError: If there is no such preset, or it has no vocabulary of its own.
        """
        if name not in cls.presets:
            raise no_such("preset", name, cls.presets)
        fields = {**cls.presets[name], **changes}
        if vocabulary_size is not None:
            fields["vocabulary_size"] = vocabulary_size
        if "vocabulary_size" not in fields and not cls.is_complete(name):
            raise InputError(f"The preset {name!r} needs a vocabulary_size.")
        return cls(**fields)

    @classmethod
    def is_complete(cls, preset: str) -> bool:
        """Return whether a preset has a vocabulary of its own."""
        return "vocabulary_size" in cls.presets[preset] or hasattr(cls, "vocabulary_size")


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


@dataclasses.dataclass(frozen=True)
class TransformerConfig(StackConfig):
    """Everything that decides an encoder-decoder Transformer; the defaults are the base model's.

    Raises:
        InputError: If a value is out of its range; the message names it.

    Reference: Vaswani et al. 2017, "Attention Is All You Need".
    """

    family = "transformer"
    presets = PRESETS

    num_decoder_layers: int | None = None  # None: as many as num_layers, the encoder's
    logits_bias: bool = False
    source_begin_id: int | None = None  # what a source begins with: <s> in BART, nothing elsewhere

    def special_ids(self, tokenizer: Any) -> dict[str, Any]:
        """Return the ids of special tokens; a source begins as a target does, if it does."""
        ids = super().special_ids(tokenizer)
        return ids if self.source_begin_id is None else {**ids, "source_begin_id": ids["begin_id"]}

    @property
    def decoder_layers(self) -> int:
        """The number of blocks of the decoder."""
        return self.num_decoder_layers or self.num_layers
