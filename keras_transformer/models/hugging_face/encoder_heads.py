"""Heads of BERT, RoBERTa and ELECTRA in checkpoints: what their tensors are called."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_transformer.models.checkpoints import Weight
from keras_transformer.models.electra import Electra
from keras_transformer.models.heads import (
    MaskedLanguageModel,
    QuestionAnswerer,
    SentenceEncoder,
    SequenceClassifier,
    TokenClassifier,
)
from keras_transformer.models.hugging_face.pieces import layer_norm, linear
from keras_transformer.models.model import ConfiguredModel

# What names of the heads' tensors begin with.
HEADS = (
    "cls.",
    "lm_head.",
    "classifier.",
    "qa_outputs.",
    "discriminator_predictions.",
    "generator_predictions.",
    "generator_lm_head.",
)
# Of a masked language model: dense layer, norm, and the two names of what scores the vocabulary.
MASKED = {
    "bert": (
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions",
        "cls.predictions.decoder",
    ),
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head", "lm_head.decoder"),
    "electra": (
        "generator_predictions.dense",
        "generator_predictions.LayerNorm",
        "generator_lm_head",
        "generator_lm_head",
    ),
}


def is_of_another_head(name: str, outer: str) -> bool:
    """Return whether a tensor belongs to one of the known heads."""
    return name.removeprefix(outer).startswith(HEADS)


@dataclasses.dataclass(frozen=True)
class Names:
    """The names of tensors in a file.

    Args:
        kind: The type in `config.json`.
        prefix: What names of the encoder begin with.
        outer: What names of the heads begin with.
    """

    kind: str
    prefix: str
    outer: str

    @property
    def masked(self) -> list[str]:
        """The parts of a masked language model, see `MASKED`."""
        return [f"{self.outer}{name}" for name in MASKED[self.kind]]

    @property
    def decoder(self) -> str:
        """The table that scores the vocabulary, in files that have one."""
        return f"{self.masked[3]}.weight"

    @property
    def copies(self) -> set[str]:
        """Tensors that files hold twice."""
        _, _, first, second = self.masked
        return {f"{first}.bias", f"{first}.bias_", f"{second}.bias", self.decoder}

    def classifier(self, cls: type[ConfiguredModel]) -> str:
        """Return the name of the layer that gives logits of labels."""
        nested = self.kind != "bert" and cls is SequenceClassifier
        return f"{self.outer}classifier.out_proj" if nested else f"{self.outer}classifier"

    def rows_of_classifier(
        self, tensors: Mapping[str, np.ndarray], cls: type[ConfiguredModel]
    ) -> int | None:
        """Return how many labels the file's classifier has; None without one."""
        name = f"{self.classifier(cls)}.weight"
        return tensors[name].shape[0] if name in tensors and tensors[name].ndim else None

    def pooler(
        self, tensors: Mapping[str, np.ndarray], cls: type[ConfiguredModel], own: bool
    ) -> str | None:
        """Return the name of the dense layer on the first token's vector, if there is one.

        Args:
            tensors: The tensors by name.
            cls: Class of the model.
            own: Whether that is the class that the file is said to hold.
        """
        without = Electra, MaskedLanguageModel, QuestionAnswerer, SentenceEncoder, TokenClassifier
        if cls in without:
            return None
        # The classifiers of the two others begin with what is the pooler in BERT.
        nested = self.kind != "bert" and cls is SequenceClassifier
        name = f"{self.outer}classifier.dense" if nested else f"{self.prefix}pooler.dense"
        if cls is SequenceClassifier and (own or f"{name}.weight" in tensors):
            return name
        pooler = f"{self.prefix}pooler.dense"
        return pooler if f"{pooler}.weight" in tensors else None


def head_weights(
    model: ConfiguredModel,
    names: Names,
    tensors: Mapping[str, np.ndarray],
    pooler: str | None,
    own: bool,
) -> list[Weight]:
    """Pair the weights of a head with tensors.

    Args:
        model: The model.
        names: What tensors are called.
        tensors: The tensors by name.
        pooler: Name of the dense layer on the first token's vector, or None.
        own: Whether the file is said to hold the head, which has to be there then; otherwise one
            that is not there begins untrained.
    """
    outer = names.outer
    weights: list[Weight] = []
    if model.config.pooler and pooler is not None:
        weights += linear(model.get_layer("pooler"), pooler)
    if isinstance(model, Electra):
        found = f"{outer}discriminator_predictions.dense"
        weights += linear(model.get_layer("discriminator"), found)
        weights += linear(model.get_layer("replaced"), f"{found}_prediction")
    elif isinstance(model, MaskedLanguageModel):
        dense, norm, first, second = names.masked
        if own or f"{dense}.weight" in tensors:
            weights += linear(model.get_layer("transform"), dense)
            weights += layer_norm(model.get_layer("transform_norm"), norm)
            bias = f"{second}.bias" if f"{second}.bias" in tensors else f"{first}.bias"
            weights.append(Weight(model.get_layer("logits_bias").bias, bias))
            if not model.config.tie_embeddings:
                weights += linear(model.get_layer("logits"), second)
    elif isinstance(model, (SequenceClassifier, TokenClassifier, QuestionAnswerer)):
        name = names.classifier(type(model))
        if isinstance(model, QuestionAnswerer):
            name = f"{outer}qa_outputs"
        if own or f"{name}.weight" in tensors:
            weights += linear(model.get_layer("logits"), name)
    return weights
