"""Tests of keras_transformer.training.data.arrays."""

import numpy as np
import pytest
from fixtures_data import TOKENIZER

from keras_transformer.errors import InputError
from keras_transformer.training import make_arrays


def test_the_decoder_reads_the_target_shifted_by_one():
    inputs, labels = make_arrays(["a b", "c"], ["d", "e f"], TOKENIZER)
    piece = {text: TOKENIZER([text]).to_list()[0] for text in "abcdef"}
    begin, end, padding = TOKENIZER.begin_id, TOKENIZER.end_id, TOKENIZER.padding_id

    def rows(*some):
        width = max(map(len, some))
        return [[*row, *[padding] * (width - len(row))] for row in some]

    source = rows([*piece["a"], *piece["b"], end], [*piece["c"], end])
    target = rows([begin, *piece["d"]], [begin, *piece["e"], *piece["f"]])
    assert inputs["source_ids"].tolist() == source
    assert inputs["target_ids"].tolist() == target
    assert labels.tolist() == rows([*piece["d"], end], [*piece["e"], *piece["f"], end])
    assert {x.dtype for x in (*inputs.values(), labels)} == {np.dtype("int32")}


@pytest.mark.parametrize(("sources", "targets"), [([], []), (["a"], []), (["a"], ["b", "c"])])
def test_pairs_have_to_be_pairs(sources, targets):
    with pytest.raises(InputError, match=f"{len(sources)} sources and {len(targets)} targets"):
        make_arrays(sources, targets, TOKENIZER)
