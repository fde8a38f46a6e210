"""Hypotheses side by side score what the teacher-forced pass gives them, whatever the positions."""

import numpy as np
import pytest
import tensorflow as tf
from fixtures_families import in_float64

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.decoding import generate, next_token_probabilities, score
from keras_transformer.errors import InputError
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.layers import BucketedBias
from keras_transformer.models import BertConfig, Gpt, GptConfig, T5Config, Transformer
from keras_transformer.models import TransformerConfig as Config
from keras_transformer.models.config import POSITIONS
from keras_transformer.pipelines.text_generator import TextGenerator
from keras_transformer.pipelines.translator import Translator
from keras_transformer.text import SPECIAL_TOKENS, WordPieceTokenizer

PIECES = [*SPECIAL_TOKENS, *"abcdefgh"]
SIZES = {"num_layers": 1, "num_heads": 2, "d_model": 8, "d_ff": 12, "max_length": 16}
SIZES |= {"num_buckets": 6, "max_distance": 4}
KINDS = {name: {"positions": name} for name in POSITIONS} | {
    "additive": {"attention": "additive", "positions": "alibi"},
    "grouped": {"num_kv_heads": 1, "positions": "rotary"},
}
MODELS = {"Transformer": (Transformer, Config), "Gpt": (Gpt, GptConfig)}
SEARCHES = {
    "greedy": GenerationOptions(max_length=4),
    "beam of 3": GenerationOptions(beam_size=3, num_hypotheses=3, length_penalty=0, max_length=4),
    "beam of 2": GenerationOptions(beam_size=2, num_hypotheses=2, length_penalty=0, max_length=4),
    "3 samples": GenerationOptions(temperature=1.0, num_hypotheses=3, seed=5, max_length=4),
}
SOURCES = np.array([[4, 5, 6, 3, 0], [7, 3, 0, 0, 0], [8, 9, 10, 11, 3]], "int32")


def make(model, kind):
    cls, config = MODELS[model]
    made = cls(config(len(PIECES), **SIZES, **KINDS[kind]))
    rng = np.random.default_rng(3)
    # Large enough for a distance to matter.
    made.set_weights([w + rng.normal(0, 0.4, w.shape) for w in made.get_weights()])
    return made


def assert_scores(model, ids, scores):
    """Make sure that each target has the score that the model gives it as a whole."""
    ids = np.array(ids).reshape(len(SOURCES), -1, np.shape(ids)[-1])
    scores = np.array(scores).reshape(len(SOURCES), -1)
    count = ids.shape[1]
    wanted = np.array(score(model, np.repeat(SOURCES, count, 0), ids.reshape(-1, ids.shape[2])))
    wanted = wanted.sum(1).reshape(-1, count)
    real = np.isfinite(scores)
    np.testing.assert_allclose(scores[real], wanted[real], atol=1e-5)
    assert real.mean() > 0.8


def searches_of(model, kind):
    """Return a half of the searches: the two models take turns, so that a kind meets every one."""
    first = (list(KINDS).index(kind) + list(MODELS).index(model)) % 2
    return list(SEARCHES.values())[first::2]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_hypotheses_have_the_scores_of_the_teacher_forced_pass(model, kind):  # D03, C19
    made = make(model, kind)
    for options in searches_of(model, kind):
        assert_scores(made, *generate(made, SOURCES, options))


# Two hypotheses and two heads: a mistake in which axis is which is not seen by its shape.
@pytest.mark.parametrize(
    ("model", "kind"),
    [("Transformer", "shaw"), ("Gpt", "transformer-xl"), ("Transformer", "buckets")],
)
def test_a_savedmodel_gives_the_same_scores(model, kind, tmp_path):
    made = make(model, kind)
    servable = Translator if model == "Transformer" else TextGenerator
    export_saved_model(
        servable(made, WordPieceTokenizer(PIECES), SEARCHES["beam of 2"]), tmp_path / "1", ["ids"]
    )
    sources = np.where(SOURCES == 3, 0, SOURCES) if model == "Transformer" else SOURCES
    outputs = tf.saved_model.load(str(tmp_path / "1")).signatures["ids"](ids=sources)
    assert_scores(made, outputs["ids"], outputs["score"])


# --- Buckets of distances -------------------------------------------------------------------------


@pytest.mark.parametrize(("bidirectional", "exact"), [(False, 8), (True, 4)])
def test_distances_need_buckets_that_widen(bidirectional, exact):
    for most in (1, exact - 1, exact):
        with pytest.raises(InputError, match=f"max_distance must be larger than {exact}.*{most}"):
            BucketedBias(2, 16, most, bidirectional)
    buckets = BucketedBias(2, 16, exact + 1, bidirectional).buckets
    found = np.array(buckets(np.arange(100, dtype="int32")))
    assert (np.diff(found) >= 0).all()
    assert found[: exact + 1].tolist() == list(range(exact + 1))
    assert found[-1] == (7 if bidirectional else 15)


@pytest.mark.parametrize("least", [2, 4])
def test_distances_need_some_buckets(least):
    with pytest.raises(InputError, match=f"num_buckets must be at least {least}"):
        BucketedBias(2, least - 1, 100, bidirectional=least == 4)


@pytest.mark.parametrize(("config", "exact"), [(Config, 8), (GptConfig, 8), (BertConfig, 4)])
def test_a_configuration_refuses_buckets_that_fold_back(config, exact):
    fields = {**SIZES, "positions": "buckets", "num_buckets": 16}
    with pytest.raises(InputError, match=f"max_distance must be larger than {exact}"):
        config(40, **{**fields, "max_distance": exact})
    assert config(40, **{**fields, "max_distance": exact + 1}).max_distance == exact + 1
    config(40, **{**fields, "positions": "none", "max_distance": exact})
    with pytest.raises(InputError, match="max_distance must be larger than 16"):
        T5Config(40, max_distance=16)


# --- Padding in a decoder -------------------------------------------------------------------------

LEFT = np.array([[0, 0, 4, 5], [6, 7, 8, 3]], "int32")
INSIDE = np.array([[6, 7, 8, 3], [4, 0, 5, 0]], "int32")


@pytest.mark.parametrize(("ids", "row", "column"), [(LEFT, 0, 2), (INSIDE, 1, 2)])
def test_padding_that_is_not_at_the_end_of_a_decoders_row_is_refused(ids, row, column):
    gpt, transformer = make("Gpt", "none"), make("Transformer", "none")
    first = SOURCES[: len(ids)]
    for function, arguments in (
        (generate, (gpt, ids)),
        (score, (gpt, ids, first)),
        (score, (gpt, first, ids)),
        (score, (transformer, first, ids)),
        (next_token_probabilities, (gpt, first, np.pad(ids, ((0, 0), (1, 0))))),
        (generate, (transformer, first, GenerationOptions(), ids)),
    ):
        for kind in (np.asarray, tf.constant):
            with pytest.raises(InputError, match=rf"row {row}, column {column}\. Put all padding"):
                function(*(kind(x) if isinstance(x, np.ndarray) else x for x in arguments))
    generate(transformer, ids)  # an encoder masks padding wherever it is


# --- Another default of floats --------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["sinusoidal", "transformer-xl", "buckets"])
def test_hypotheses_are_right_where_keras_computes_in_float64(model, kind):
    with in_float64():
        made = make(model, kind)
        assert made.compute_dtype == "float64"
        searches = searches_of(model, kind)
        for options in searches:
            assert_scores(made, *generate(made, SOURCES, options))
        rules = {"repetition_penalty": 1.3, "no_repeat_ngram": 2, "min_length": 2, "max_length": 4}
        width = {"temperature": 0.7, "top_k": 5, "top_p": 0.9}
        if SEARCHES["beam of 3"] in searches:
            width = {"beam_size": 3}
        ids, _ = generate(made, SOURCES, GenerationOptions(**rules, **width), SOURCES[:, :2])
        assert np.array(ids)[:, 0].tolist() == SOURCES[:, 0].tolist()
