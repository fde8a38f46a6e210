"""Tests of models.hugging_face.generation: how the publisher's texts are written is said."""

import json
import re

import pytest
from fixtures_checkpoints import with_tokenizer

from keras_transformer.errors import InputError
from keras_transformer.models.bart import BartConfig
from keras_transformer.models.gpt import GptConfig
from keras_transformer.models.hugging_face.generation import notes_of_generation
from keras_transformer.training.run.importing import import_checkpoint

MARIAN, GPT, BART = "marian", "gpt2", "bart-base"
CONFIGS = {
    MARIAN: BartConfig.preset(MARIAN),
    GPT: GptConfig.preset(GPT),
    BART: BartConfig.preset(BART),
}


@pytest.mark.parametrize(
    ("config", "fields", "found"),
    [
        (GPT, {}, []),
        # What a search here does anyway.
        (MARIAN, {"bad_words_ids": [[65000]], "forced_eos_token_id": 0}, []),
        (
            BART,
            {"forced_eos_token_id": 2, "num_beams": 1, "length_penalty": 2.0, "prefix": " "},
            [],
        ),
        (GPT, {"max_length": 20, "temperature": 1.0, "top_k": 50, "use_cache": False}, []),
        (GPT, {"temperature": 0.7, "do_sample": False}, []),
        # What options do.
        (BART, {"num_beams": 4, "no_repeat_ngram_size": 3}, ["--no-repeat-ngram 3 --beam-size 4"]),
        (BART, {"min_length": 56, "max_length": 142}, ["--max-length 142 --min-length 56"]),
        (GPT, {"do_sample": True, "top_p": 0.9}, ["--temperature 1.0 --top-p 0.9"]),
        # What has no equal.
        (BART, {"forced_bos_token_id": 0}, ["Not supported.*forced_bos_token_id=0"]),
        (BART, {"force_bos_token_to_be_generated": True}, ["force_bos_token_to_be_generated"]),
        (BART, {"forced_eos_token_id": 5}, ["forced_eos_token_id=5"]),
        (MARIAN, {"bad_words_ids": [[65000], [7]]}, ["bad_words_ids"]),
        (MARIAN, {"bad_words_ids": [[65000, 7]]}, ["bad_words_ids"]),
        (GPT, {"suppress_tokens": [1], "repetition_penalty": 1.2}, ["repetition_penalty=1.2"]),
        (BART, {"num_beams": 2, "length_penalty": 2.0}, ["--beam-size 2", "length_penalty=2.0"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["config.json", "generation_config.json"])
def test_what_changes_the_text_is_said(tmp_path, config, fields, found, place):
    own = fields if place == "config.json" else {"num_beams": 9}
    if place != "config.json":
        (tmp_path / place).write_text(json.dumps({"num_beams": 1, **fields}))
    notes = notes_of_generation(tmp_path, own, CONFIGS[config])
    assert len(notes) == len(found)
    for note, part in zip(notes, found, strict=True):
        assert re.search(part, note), note


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        (GPT, {"eos_token_id": [50256, 5]}, r"eos_token_id=\[50256, 5\]"),
        (BART, {"decoder_start_token_id": 0}, "decoder_start_token_id=0, but config.json makes"),
        (BART, {"new_rule": 3}, "new_rule=3"),
    ],
)
def test_what_contradicts_the_model_or_is_unknown_is_refused(tmp_path, config, fields, message):
    (tmp_path / "generation_config.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match=message):
        notes_of_generation(tmp_path, {}, CONFIGS[config])


def test_import_tells_it(tmp_path, capsys):
    folder = with_tokenizer("gpt2", tmp_path / "there")
    (folder / "generation_config.json").write_text('{"num_beams": 3, "eos_token_id": [2]}')
    told: list[str] = []
    import_checkpoint(folder, tmp_path / "run", tell=told.append)
    assert len(told) == 1 and told[0].endswith("give --beam-size 3.")
    import_checkpoint(folder, tmp_path / "run", overwrite=True)
    assert capsys.readouterr().err.strip() == told[0]
