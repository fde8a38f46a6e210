"""Options of generation in published files, and how they differ from a search here."""

from pathlib import Path
from typing import Any

from keras_transformer.errors import InputError
from keras_transformer.models.checkpoints import read_json
from keras_transformer.models.config import StackConfig
from keras_transformer.models.hugging_face.fields import GENERATION, Fields, is_unset

FILE = "generation_config.json"
FIELDS = Fields(
    understood=GENERATION | {"bos_token_id", "eos_token_id", "pad_token_id"},
    harmless={"_from_model_config", "transformers_version", "use_cache", "output_attentions"}
    | {"output_hidden_states", "trust_remote_code", "attn_implementation"},
)
# What says nothing, because it is what happens without it.
DEFAULTS: dict[str, Any] = {
    "diversity_penalty": 0.0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "max_length": 20,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
}
# What options of ours do the same.
OPTIONS = {
    "max_length": "max-length",
    "max_new_tokens": "max-length",
    "min_length": "min-length",
    "min_new_tokens": "min-length",
    "no_repeat_ngram_size": "no-repeat-ngram",
    "num_beams": "beam-size",
    "num_return_sequences": "num-hypotheses",
}
SAMPLING = {"temperature": "temperature", "top_k": "top-k", "top_p": "top-p", "min_p": "min-p"}
# What changes the text and has no equal here.
OTHERS = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "constraints",
    "diversity_penalty",
    "dola_layers",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "exponential_decay_length_penalty",
    "force_bos_token_to_be_generated",
    "force_words_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "guidance_scale",
    "length_penalty",
    "num_beam_groups",
    "penalty_alpha",
    "prefix",
    "repetition_penalty",
    "sequence_bias",
    "stop_strings",
    "suppress_tokens",
    "watermarking_config",
)


def notes_of_generation(folder: Path, published: dict[str, Any], config: StackConfig) -> list[str]:
    """Return what a person has to know to get the publisher's texts.

    Args:
        folder: Folder of the checkpoint.
        published: The content of its `config.json`, which older files have it in.
        config: The configuration of the model that was made.

    Returns:
        Sentences; none if greedy search writes what it does there.

    Raises:
        InputError: If a field is unknown, or contradicts the model.
    """
    fields = {name: published[name] for name in GENERATION if name in published}
    path = folder / FILE
    if path.is_file():
        own = read_json(path)
        FIELDS.check(own, path)
        fields |= own
        _check_ids(own, config, path)
    said = {
        name: value
        for name, value in fields.items()
        if not is_unset(value) and value != DEFAULTS.get(name)
    }
    _leave_out_what_holds(said, config)
    notes = []
    options = dict(OPTIONS)
    if said.get("do_sample"):
        options |= SAMPLING
        said.setdefault("temperature", 1.0)
    if found := {name: said[name] for name in options if name in said}:
        given = " ".join(f"--{options[name]} {value}" for name, value in found.items())
        notes.append(f"The publisher's texts are written with {_listed(found)}: give {given}.")
    if found := {name: said[name] for name in OTHERS if name in said}:
        notes.append(f"Not supported, so texts may differ from the publisher's: {_listed(found)}.")
    return notes


def _check_ids(own: dict[str, Any], config: StackConfig, path: Path) -> None:
    pairs = {"eos_token_id": config.end_id, "decoder_start_token_id": config.begin_id}
    if config.family == "gpt":
        pairs.pop("decoder_start_token_id")
    for name, wanted in pairs.items():
        value = own.get(name)
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if value is not None and value != wanted:
            raise InputError(
                f"{path} says {name}={value!r}, but config.json makes it {wanted}; only one "
                "is supported."
            )


def _leave_out_what_holds(said: dict[str, Any], config: StackConfig) -> None:
    """Take out what a search here does anyway."""
    never = {config.begin_id, config.padding_id} - {config.end_id}
    bad = said.get("bad_words_ids")
    if isinstance(bad, list) and all(b in [[token] for token in never] for b in bad):
        said.pop("bad_words_ids")
    if said.get("forced_eos_token_id") in (config.end_id, [config.end_id]):
        said.pop("forced_eos_token_id")  # at the greatest length, where nothing is read any more
    if said.get("num_beams", 1) == 1:
        said.pop("length_penalty", None)
    if isinstance(said.get("prefix"), str) and not said["prefix"].strip():
        said.pop("prefix")


def _listed(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in fields.items())
