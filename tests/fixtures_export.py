"""The model of the small run as a `Translator`, and what it makes of many kinds of text."""

import pytest
from fixtures_run import exported, trained

from keras_transformer.export import runtime
from keras_transformer.translation import translate
from keras_transformer.translator import Translator

__all__ = ["exported", "trained"]

TEXTS = [
    "red cat",
    "café. naïve house sun",
    "tree  \t tree\ngreen",
    "",
    "   ",
    "\N{GRINNING FACE} dog 👩‍🚀",
    "cafe\N{COMBINING ACUTE ACCENT}. x\N{COMBINING DIAERESIS}",
    "dog\0cat sun",
    "\0",
    "grey " * 2000,
    "g" * 10_000,
    "猫が好き",
    "[EOS] red ##d [PAD]",
]


@pytest.fixture(scope="module")
def translator(trained):
    return Translator(trained.run.load_model(), trained.run.tokenizer())


@pytest.fixture(scope="module")
def runtimes(translator, exported):
    """The model, and both artefacts that take text."""
    return {
        "keras": translator,
        "savedmodel": runtime.load(exported.paths["savedmodel"]),
        "tflite": runtime.load(exported.paths["tflite"]),
    }


@pytest.fixture(scope="module")
def expected(translator):
    return translate(translator, TEXTS)
