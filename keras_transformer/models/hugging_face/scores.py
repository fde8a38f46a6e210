"""The use of published classifiers' logits: one label of several, several labels, a number."""

from typing import Any

from keras_transformer.errors import InputError
from keras_transformer.models.hugging_face.fields import Fields
from keras_transformer.models.hugging_face.sentence_transformers import Package, activation_name

PROBLEMS = {
    None: None,
    "single_label_classification": None,
    "multi_label_classification": "sigmoid",
    "regression": "none",
}
FIELDS = Fields(understood={"activation_fn"}, harmless={"version"})
ACTIVATIONS = {"Identity": "none", "Sigmoid": "sigmoid"}


def scores_of(published: dict[str, Any], package: Package | None, labels: int) -> str | None:
    """Return what logits become, a name that `TextClassifier` knows; None for its default.

    Args:
        published: The content of `config.json`.
        package: What sentence-transformers wrote beside it, or None.
        labels: Number of labels.

    Raises:
        InputError: If a file says what is not supported.
    """
    problem = published.get("problem_type")
    if problem not in PROBLEMS:
        known = ", ".join(str(name) for name in PROBLEMS if name)
        raise InputError(
            f"config.json says problem_type={problem!r}, which is unknown; supported are {known}."
        )
    given = _activation(published, package)
    if given is not None:
        name = activation_name(given, "config.json")
        if name not in ACTIVATIONS:
            raise InputError(
                f"config.json turns scores into others by {given!r}, which is not "
                f"supported; supported are {', '.join(ACTIVATIONS)}."
            )
        # Several labels are compared with each other: Identity leaves that to whoever asks.
        if labels == 1 or name == "Sigmoid":
            return ACTIVATIONS[name]
    return PROBLEMS[problem]


def reads_pairs(published: dict[str, Any], package: Package | None, labels: int) -> bool:
    """Return whether a classifier was made for pairs of texts, as far as its files tell."""
    return labels == 1 or package is not None or _activation(published, package) is not None


def _activation(published: dict[str, Any], package: Package | None) -> str | None:
    if package is not None and package.activation is not None:
        return package.activation
    own = published.get("sentence_transformers")
    if isinstance(own, dict):
        FIELDS.check(own, "sentence_transformers in config.json")
        if own.get("activation_fn") is not None:
            return own["activation_fn"]
    return published.get("sbert_ce_default_activation_function")
