"""Tests that models, heads and servables say what to write when they are given something else.

Also: models.arguments.
"""

from pathlib import Path

import keras
import numpy as np
import pytest
from fixtures_servables import PIECES, SIZES

from keras_transformer import models
from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.errors import InputError
from keras_transformer.models.heads import EncoderHead
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.pipelines.image_classifier import ImageClassifier
from keras_transformer.pipelines.mask_filler import MaskFiller
from keras_transformer.pipelines.passage_reader import PassageReader
from keras_transformer.pipelines.sentence_embedder import SentenceEmbedder
from keras_transformer.pipelines.servable import Servable
from keras_transformer.pipelines.tasks import TaskSettings, make_servable
from keras_transformer.pipelines.text_classifier import TextClassifier
from keras_transformer.pipelines.text_encoder import TextEncoder
from keras_transformer.pipelines.text_generator import TextGenerator
from keras_transformer.pipelines.text_writer import TextWriter
from keras_transformer.pipelines.token_labeller import TokenLabeller
from keras_transformer.pipelines.translator import Translator
from keras_transformer.text import WordPieceTokenizer

V = len(PIECES)
CLASSES = [getattr(models, name) for name in models.__all__]
MODELS = [
    cls
    for cls in CLASSES
    if isinstance(cls, type) and issubclass(cls, ConfiguredModel) and cls is not ConfiguredModel
]
HEADS = [cls for cls in MODELS if issubclass(cls, EncoderHead)]
SERVABLES = {
    Translator: "Transformer",
    TextGenerator: "Gpt",
    SentenceEmbedder: "SentenceEncoder",
    TextClassifier: "SequenceClassifier",
    TokenLabeller: "TokenClassifier",
    PassageReader: "QuestionAnswerer",
    MaskFiller: "MaskedLanguageModel",
    ImageClassifier: "VisionTransformer",
}
BERT = models.BertConfig(V, **SIZES, begin_id=2, end_id=3)
LABELS = {models.SequenceClassifier: {"num_labels": 2}, models.TokenClassifier: {"num_labels": 2}}


def foreign():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


def other_family(cls):
    """Return a configuration that a class of model has no use for."""
    is_image = cls is models.VisionTransformer
    return BERT if is_image else models.VisionTransformerConfig(**SIZES, image_size=4, patch_size=2)


WRONG = {
    "text": (lambda _: "enormous", "There is no preset 'enormous'; choose one of"),
    "path": (lambda _: Path("runs/x"), r"not the path 'runs/x'.*kt\.load\('runs/x'\)"),
    "path as text": (lambda _: "runs/x", r"not the path 'runs/x'.*kt\.load\('runs/x'\)"),
    "file of Keras": (lambda _: "my.keras", r"'my\.keras'.*keras\.models\.load_model"),
    "number": (lambda _: 8000, "or its fields as a dict; got 8000"),
    "nothing": (lambda _: None, "or its fields as a dict; got None"),
    "list": (lambda _: [8000], r"or its fields as a dict; got \[8000\]"),
    "class": (lambda _: models.BertConfig, "or its fields as a dict; got <class"),
    "model of Keras": (lambda _: foreign(), "a Sequential is none of this package"),
    "configuration": (other_family, "takes an? .*Config; a .*Config is for"),
    "fields": (lambda cls: other_family(cls).to_dict(), "the family of this configuration is"),
    "odd family": (lambda _: {"family": ["bert"]}, r"configuration is \['bert'\]"),
    "unknown fields": (lambda _: {"sise": 3, 4: 5}, "Unknown fields.*: 4, sise"),
    "fields of text": (lambda _: {"vocabulary_size": "8"}, "vocabulary_size must be a whole num"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("cls", MODELS)
def test_models_say_what_they_take(cls, kind):
    make, message = WRONG[kind]
    with pytest.raises(InputError, match=message):
        cls(make(cls), **LABELS.get(cls, {}))


@pytest.mark.parametrize(
    "cls", [cls for cls in MODELS if cls not in (models.T5, models.VisionTransformer)]
)
def test_fields_without_a_vocabulary_are_refused(cls):
    with pytest.raises(InputError, match="has no vocabulary_size"):
        cls({"num_layers": 1}, **LABELS.get(cls, {}))


@pytest.mark.parametrize(
    ("cls", "name", "message"),
    [
        (models.Transformer, "tiny", r"TransformerConfig\.preset\('tiny', vocabulary_size=8000\)"),
        (models.Gpt, "gpt-tiny", r"GptConfig\.preset\('gpt-tiny', vocabulary_size=8000\)"),
        (models.Bert, "bert-mini", r"BertConfig\.preset\('bert-mini', vocabulary_size=8000\)"),
        (models.SentenceEncoder, "bert-tiny", r"BertConfig\.preset\('bert-tiny', vocab"),
        (models.Transformer, "gpt2", "takes a TransformerConfig, but 'gpt2' is a preset of GptC"),
        (models.TokenClassifier, "tiny", "takes a BertConfig, but 'tiny' is a preset of Transf"),
        (models.VisionTransformer, "base", "but 'base' is a preset of TransformerConfig"),
    ],
)
def test_names_of_presets_are_not_enough_where_a_vocabulary_is_needed(cls, name, message):
    with pytest.raises(InputError, match=message):
        cls(name, **LABELS.get(cls, {}))


@pytest.mark.parametrize(
    ("cls", "name", "size"),
    [
        (models.Gpt, "gpt2", 50257),
        (models.Bart, "marian", 65001),
        (models.T5, "t5-small", 32128),
        (models.MaskedLanguageModel, "roberta-base", 50265),
        (models.VisionTransformer, "vit-tiny", 4),
    ],
)
def test_names_of_complete_presets_are_taken(cls, name, size):
    config = cls.make_config(name)
    assert config.vocabulary_size == size
    assert isinstance(config, cls.config_class)


def test_fields_have_the_class_of_their_family():
    config = models.RobertaConfig(V, **SIZES)
    for cls in (models.Bert, models.SentenceEncoder):
        assert cls.make_config(config.to_dict()) == config


@pytest.mark.parametrize("wrong", [None, "3", 2.0, True])
@pytest.mark.parametrize("cls", LABELS)
def test_heads_ask_for_the_number_of_labels(cls, wrong):
    with pytest.raises(InputError, match="num_labels must be a whole number, the number of labels"):
        cls(BERT, num_labels=wrong)


def models_with_an_encoder():
    """Return one of each class that has an encoder, with weights of its own."""
    sizes = {**SIZES, "embedding_width": 6}
    electra = models.ElectraConfig(V, **sizes, begin_id=2, end_id=3, mask_id=4)
    keras.utils.set_random_seed(3)
    plain = [
        models.Bert(BERT),
        models.Roberta(models.RobertaConfig(V, **SIZES, share_layers=True)),
        models.Electra(electra, dtype="mixed_bfloat16"),
    ]
    return plain + [cls(BERT, **LABELS.get(cls, {})) for cls in HEADS]


def test_heads_begin_with_the_encoder_of_the_model_that_they_are_given():
    ids = np.array([[2, 6, 7, 3], [2, 9, 3, 0]], "int32")
    for source in models_with_an_encoder():
        given = {layer.name: layer for layer in source.layers}
        for cls in HEADS if type(source) not in HEADS else [models.SequenceClassifier]:
            model = cls(source, **LABELS.get(cls, {}))
            assert model.config == source.config
            assert model.dtype_policy == source.dtype_policy
            ours = {layer.name: layer for layer in model.layers if layer.weights}
            shared = {"embedding", "positions", "embedding_norm", "segments", "encoder"}
            assert shared <= ours.keys()
            if "pooler" in ours and "pooler" in given:
                shared |= {"pooler"}
            if source.config.embedding_width:
                shared |= {"widen"}
            for name in shared:
                for mine, theirs in zip(ours[name].weights, given[name].weights, strict=True):
                    assert mine is not theirs
                    np.testing.assert_array_equal(mine, theirs)
    source = models_with_an_encoder()[0]
    outputs = source({"token_ids": ids, "segment_ids": ids * 0})
    model = models.SequenceClassifier(source, num_labels=2, name="mine", pooling="first")
    logits = model({"token_ids": ids, "segment_ids": ids * 0})
    np.testing.assert_allclose(logits, model.get_layer("logits")(outputs["pooled"]), atol=1e-6)
    assert models.SentenceEncoder(source, dtype="mixed_float16").compute_dtype == "float16"
    again = models.SequenceClassifier.from_config(model.get_config())
    assert again.name == "mine"


def test_models_without_an_encoder_are_named():
    gpt = models.Gpt(models.GptConfig(V, **SIZES))
    for cls in HEADS:
        with pytest.raises(InputError, match="takes a BertConfig, and not a model; a Gpt has a"):
            cls(gpt, **LABELS.get(cls, {}))
    with pytest.raises(InputError, match=r"Write Gpt\(model\.config\) for a new model of the same"):
        models.Gpt(gpt)


# --- Servables ------------------------------------------------------------------------------------


def test_every_servable_is_tried():
    found, classes = set(), [Servable]
    while classes:
        classes += (cls := classes.pop()).__subclasses__()
        found.add(cls)
    ours = {cls for cls in found if cls.__module__.startswith("keras_transformer.")}
    assert ours - {Servable, TextEncoder, TextWriter} == set(SERVABLES)


NO_MODEL = {
    "text": ("runs/x", r"not the path 'runs/x'. Write kt\.load\('runs/x'\)"),
    "path": (Path("runs/x"), r"not the path 'runs/x'. Write kt\.load\('runs/x'\)"),
    "number": (3, "a model of this package; got 3"),
    "nothing": (None, "a model of this package; got None"),
    "class": (models.Transformer, "a model of this package; got <class"),
    "configuration": (BERT, r"not its configuration; write .*\(config\)"),
}


@pytest.mark.parametrize("kind", NO_MODEL)
@pytest.mark.parametrize("cls", SERVABLES)
def test_servables_say_what_they_take(cls, kind):
    given, message = NO_MODEL[kind]
    for arguments in ((), (WordPieceTokenizer(PIECES),)):
        with pytest.raises(InputError, match=f"{cls.__name__} takes a {SERVABLES[cls]}.*{message}"):
            cls(given, *arguments)


def test_servables_name_models_of_another_kind():
    bert = models.Bert(BERT)
    tokenizer = WordPieceTokenizer(PIECES)
    for cls, wanted in SERVABLES.items():
        head = getattr(models, wanted) in HEADS
        rest = rf" Write {wanted}\(model.*\) for a new head" if head else ""
        with pytest.raises(InputError, match=f"takes a {wanted}; got a Bert.{rest}"):
            cls(bert, tokenizer)
        with pytest.raises(InputError, match="a model of this package; got <Sequential"):
            cls(foreign(), tokenizer)


def model_for(cls):
    """Return the smallest model that a servable takes."""
    wanted = getattr(models, SERVABLES[cls])
    if wanted is models.VisionTransformer:
        config = models.VisionTransformerConfig(**SIZES, image_size=4, patch_size=2, num_classes=2)
        return wanted(config)
    if wanted in HEADS:
        return wanted(BERT, **LABELS.get(wanted, {}))
    return wanted(wanted.config_class(V, **SIZES))


@pytest.mark.parametrize("cls", [cls for cls in SERVABLES if cls is not ImageClassifier])
def test_servables_ask_for_a_tokeniser(cls):
    model = model_for(cls)
    with pytest.raises(InputError, match=f"{cls.__name__} needs the tokeniser"):
        cls(model)
    for path in ("vocab.txt", Path("vocab.txt")):
        with pytest.raises(InputError, match=r"not the path 'vocab.txt'; load it first, as kt\.t"):
            cls(model, path)
    for wrong in (3, WordPieceTokenizer, PIECES):
        with pytest.raises(InputError, match=r"takes a tokeniser of kt\.text; got"):
            cls(model, wrong)


@pytest.mark.parametrize("labels", [None, "ab", b"ab", 2])
@pytest.mark.parametrize("cls", [TextClassifier, TokenLabeller, ImageClassifier])
def test_labels_are_a_list(cls, labels):
    model = model_for(cls)
    arguments = (model,) if cls is ImageClassifier else (model, WordPieceTokenizer(PIECES))
    with pytest.raises(InputError, match="labels must be a list of names, in the order of"):
        cls(*arguments, labels)


def test_options_of_generation_are_refused_where_no_text_is_written():
    head = TaskSettings("embedding")
    message = "for embedding writes no text, so it takes no options of generation; leave them out"
    for given in ({"options": GenerationOptions()}, {"jit_compile": True}):
        with pytest.raises(InputError, match=message):
            make_servable(models.SentenceEncoder(BERT), WordPieceTokenizer(PIECES), head, **given)
