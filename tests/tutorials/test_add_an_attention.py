"""The tutorial "Add an attention", run as it stands on its page.

Also: layers.attentions.
"""

import numpy as np
import pytest
from fixtures_attention import built, normal
from fixtures_cli import call
from fixtures_tutorials import commands, install

import keras_transformer as kt
from keras_transformer.errors import InputError

__all__ = ["call", "install"]
PAGE = "add-an-attention.md"


def test_one_file_and_one_line_add_an_attention(install, call, capsys):
    files, (command_line, *_) = install(PAGE)
    assert "cosine" in kt.layers.ATTENTIONS
    exec(compile(files["train.py"], "train.py", "exec"), {"__name__": "__main__"})
    losses, ids = capsys.readouterr().out.split("]\n", 1)
    first, *_, last = map(float, losses.strip("[").split(", "))
    assert last < 0.5 * first
    assert len(ids.splitlines()) == 3

    params, train = commands(command_line)
    status, shown, errors = call(params)
    assert status == 0, errors
    config = kt.models.TransformerConfig.preset("tiny", 8000)
    more = config.num_layers * 2 * config.num_heads  # a temperature a head, in both stacks
    plain = kt.models.parameters.count_parameters(config).total
    assert f"{plain + more:,}" in shown and f"{plain:,}" not in shown
    assert "--set" in train and "attention=cosine" in train


def test_the_layer_is_the_formula(install, rng):
    install(PAGE)
    layer = built(kt.layers.ATTENTIONS["cosine"](2, 8), rng)
    layer.temperature.assign([[[0.5]], [[1.5]]])
    query, key, value = (normal(rng, 1, 2, 3, 4) for _ in range(3))
    mask = np.array([[[[True, True, False], [False] * 3, [True] * 3]]])
    mixed, weights = layer.attend(query, key, value, mask)
    for head, temperature in enumerate([0.5, 1.5]):
        unit = [
            x[0, head] / np.linalg.norm(x[0, head], axis=-1, keepdims=True) for x in (query, key)
        ]
        powers = np.exp(np.exp(temperature) * unit[0] @ unit[1].T) * mask[0, 0]
        expected = powers / np.maximum(powers.sum(-1, keepdims=True), 1e-9)
        np.testing.assert_allclose(weights[0, head], expected, atol=1e-5)
        np.testing.assert_allclose(mixed[0, head], expected @ value[0, head], atol=1e-5)


def test_without_the_package_the_name_is_refused(call):
    status, _, errors = call("params --preset tiny --vocab-size 99 --set attention=cosine")
    assert status == 2
    assert "attention must be one of dot-product, additive, got 'cosine'" in errors


@pytest.mark.parametrize("positions", ["rotary", "alibi", "buckets", "shaw"])
def test_an_attention_of_distances_takes_no_other_relative_positions(monkeypatch, positions):
    table = kt.layers.ATTENTIONS
    monkeypatch.setattr(table, "_rows", dict(table))
    table.register("distances", kt.layers.ShawAttention)
    fields = {"num_layers": 1, "num_heads": 2, "d_model": 8, "d_ff": 8, "attention": "distances"}
    with pytest.raises(InputError, match=f"positions='{positions}'.* can.t be combined"):
        kt.models.BertConfig(99, positions=positions, **fields)
    model = kt.models.Bert(kt.models.BertConfig(99, positions="none", **fields))
    ids = np.array([[5, 6, 7]], "int32")
    assert model({"token_ids": ids, "segment_ids": 0 * ids})["pooled"].shape == (1, 8)
