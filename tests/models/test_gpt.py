import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_transformer.decoding import GenerationOptions, generate, next_token_probabilities, score
from keras_transformer.models import Gpt, GptConfig

END = 3
BASE = {"num_layers": 2, "num_heads": 2, "d_model": 16, "d_ff": 24, "max_length": 24}
KINDS = {
    "gpt2": {},
    "gpt1": {"norm_first": False},
    "sinusoidal": {"positions": "sinusoidal", "scale_embeddings": True},
    "rotary": {"positions": "rotary", "norm": "rms", "gated": True, "activation": "silu"},
    "alibi": {"positions": "alibi"},
    "buckets": {"positions": "buckets", "num_buckets": 8, "max_distance": 6},
    "shaw": {"positions": "shaw", "max_distance": 4},
    "transformer-xl": {"positions": "transformer-xl"},
    "grouped": {"num_kv_heads": 1},
    "additive": {"attention": "additive"},
    "none": {"positions": "none"},
    "untied": {"tie_embeddings": False, "use_bias": False},
    "shared": {"share_layers": True, "num_layers": 3},
}
PROMPTS = np.array([[5, 9, 7, 4, 8, 6], [11, 4, 0, 0, 0, 0], [7, 7, 9, 0, 0, 0]], "int32")
LENGTHS = [6, 2, 3]


def make(kind="gpt2", **options):
    keras.utils.set_random_seed(1)
    model = Gpt(GptConfig(13, **{**BASE, **KINDS[kind], **options}))
    for weight in model.trainable_variables:  # large enough that every part matters
        if len(weight.shape) > 1:
            noise = np.random.default_rng(len(weight.path)).normal(size=weight.shape)
            weight.assign(0.5 * noise)
    return model


def likeliest(model, prompt, written):
    """Return the likeliest token after each prefix, and what those written score, without a cache.

    One pass of the whole model: a token that it let look ahead would not be what was written.
    """
    ids = [*prompt, *written]
    logits = np.array(model({"token_ids": np.array([ids])}, training=False))[
        0, len(prompt) - 1 : -1
    ]
    shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    shares[:, 0] = -np.inf  # padding is never written
    return shares.argmax(axis=1).tolist(), shares[range(len(written)), written].sum()


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_of_any_length_go_on_as_the_whole_model_says(kind):  # M03, C19, D03
    model = make(kind)
    ids, scores = generate(model, PROMPTS, GenerationOptions(max_length=4))
    for row, length, got, value in zip(PROMPTS, LENGTHS, np.array(ids), scores, strict=True):
        written = [int(token) for token in got if token]
        assert END not in written[:-1] and (len(written) == 4 or written[-1] == END)
        assert not got[len(written) :].any()
        wanted, total = likeliest(model, row[:length], written)
        assert written == wanted
        assert float(value) == pytest.approx(total, abs=1e-3)


def test_beam_search_of_a_prompt_finds_the_best_of_all_continuations():
    model = make("rotary")
    options = GenerationOptions(
        beam_size=60, num_hypotheses=3, max_length=2, length_penalty=0.0, min_length=2
    )
    ids, scores = generate(model, PROMPTS[:2], options)
    for row, length, best, values in zip(PROMPTS, LENGTHS, np.array(ids), scores, strict=False):
        tokens = [t for t in range(1, 13) if t != END]
        pairs = np.array(list(itertools.product(tokens, tokens)))
        prompts = np.tile(row[:length], (len(pairs), 1))
        totals = np.array(ops.sum(score(model, prompts, pairs), axis=1))
        # An end in the second place finishes a target as well.
        ended = np.array([[t, END] for t in tokens])
        more = np.array(ops.sum(score(model, prompts[: len(ended)], ended), axis=1))
        rows, totals = np.concatenate([pairs, ended]), np.concatenate([totals, more])
        order = np.argsort(-totals)[:3]
        assert best[:, :2].tolist() == rows[order].tolist()
        np.testing.assert_allclose(np.array(values), totals[order], atol=1e-4)


def test_a_row_does_not_depend_on_those_beside_it():
    model = make()
    options = GenerationOptions(max_length=5, temperature=0.8, num_hypotheses=2, seed=3)
    together, _ = generate(model, PROMPTS, options)
    for i, length in enumerate(LENGTHS):
        alone, _ = generate(model, PROMPTS[i : i + 1, :length], options)
        assert np.array_equal(np.array(together)[i], np.array(alone)[0])


def test_writing_ends_with_the_context():
    model = make(max_length=8)
    ids, _ = generate(model, PROMPTS, GenerationOptions(max_length=20, min_length=20))
    assert [np.count_nonzero(row) for row in np.array(ids)] == [2, 6, 5]


def test_a_prompt_without_any_token_gives_nothing():
    ids, _ = generate(make(), np.zeros((1, 4), "int32"), GenerationOptions(max_length=5))
    assert not np.array(ids).any()


def test_later_tokens_do_not_reach_earlier_ones():  # C16, C51
    model = make()
    one = np.array([[5, 6, 7, 8, 9]])
    other = np.array([[5, 6, 7, 11, 4]])
    first, second = (np.array(model({"token_ids": ids}, training=False)) for ids in (one, other))
    assert np.array_equal(first[:, :3], second[:, :3])
    assert not np.allclose(first[:, 3:], second[:, 3:])


def test_loss_at_a_place_does_not_depend_on_what_comes_later():  # T22
    model = make()
    shares = [np.array(score(model, [[5]], [row])) for row in ([6, 7, 8, 9], [6, 7, 11, 4])]
    np.testing.assert_allclose(shares[0][:, :2], shares[1][:, :2], atol=1e-6)
    assert not np.allclose(shares[0][:, 2:], shares[1][:, 2:])


def test_next_token_follows_prompt_and_what_was_written():
    model = make()
    target = np.array([[4, 5], [6, 0], [0, 0]], "int32")
    got = np.array(next_token_probabilities(model, PROMPTS, target))
    for row, length, written, probabilities in zip(PROMPTS, LENGTHS, target, got, strict=True):
        ids = [*row[:length], *written[written > 0]]
        logits = np.array(model({"token_ids": np.array([ids])}, training=False))[0, -1]
        np.testing.assert_allclose(
            probabilities, np.exp(logits) / np.exp(logits).sum(), rtol=1e-4, atol=1e-6
        )


def test_the_first_gpt_has_its_number_of_parameters():  # M03
    config = GptConfig.preset("gpt1")
    blocks = 12 * (4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768)
    assert 40478 * 768 + 512 * 768 + blocks == 116_534_784
    small = Gpt(GptConfig.preset("gpt1", num_layers=1)).count_params()
    assert small == 116_534_784 - 11 * blocks // 12
    assert config.num_layers == 12
    names = [w.path for w in Gpt(GptConfig(13, **BASE)).weights]
    assert not any("cross" in name for name in names)
