"""Fields of published JSON files: which are understood, which are harmless, what else is refused.

A field that is dropped silently may change every number. So each reader lists what it knows, and
whatever else has a value is refused by its name.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from keras_transformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class Only:
    """The values of a field that are supported.

    Args:
        values: The values that are.
        changes: What another one would change, as the end of a sentence.
    """

    values: tuple[Any, ...]
    changes: str


@dataclasses.dataclass(frozen=True)
class Fields:
    """The known fields of a kind of JSON file.

    Args:
        understood: Names of fields that a reader goes by.
        harmless: Names of fields that change no number of a model that is used: of training, of
            how the file was written, of other programs.
        only: What else is known, by name: fields of which only some values are built.
    """

    understood: Collection[str] = ()
    harmless: Collection[str] = ()
    only: Mapping[str, Only] = dataclasses.field(default_factory=dict)

    def __or__(self, other: "Fields") -> "Fields":
        """Join two lists; what the second says of a name counts."""
        return Fields(
            {*self.understood, *other.understood},
            {*self.harmless, *other.harmless},
            {**self.only, **other.only},
        )

    def check(self, fields: Mapping[str, Any], place: Any) -> None:
        """Refuse what is not known and has a value.

        Args:
            fields: The content of a file.
            place: The file, for the message.

        Raises:
            InputError: If there is such a field; the message names it and what it would change.
        """
        for name, value in fields.items():
            if name in self.only:
                rule = self.only[name]
                if value is not None and not any(_same(value, one) for one in rule.values):
                    built = " or ".join(map(repr, rule.values))
                    raise InputError(
                        f"{place} says {name}={value!r}, which {rule.changes}; only {built} is "
                        "supported, so the numbers would be wrong."
                    )
            elif name not in self.understood and name not in self.harmless and not is_unset(value):
                raise InputError(
                    f"{place} says {name}={value!r}, which {CHANGES.get(name, UNKNOWN)}. "
                    "It is not supported. If you are sure that it changes nothing, take it out of "
                    "the file."
                )


UNKNOWN = "is unknown here and may change what the model computes"
# What fields would change that are met in published files and are not supported.
CHANGES = {
    "adapters": "adds layers inside of the blocks",
    "auto_map": "names code of its own in place of this architecture",
    "cross_attention_hidden_size": "gives the keys of another model their width",
    "pruned_heads": "takes heads away from some of the layers",
    "quantization_config": "packs the weights into fewer bits",
    "rope_scaling": "turns positions otherwise",
    "rope_theta": "turns queries and keys by their positions",
    "rope_parameters": "turns queries and keys by their positions",
    "sliding_window": "hides tokens that are far away",
    "use_mems": "attends to text before this one",
}


def is_unset(value: Any) -> bool:
    """Return whether a field has no value: null, false (not 0, which may be an id), or empty."""
    if isinstance(value, dict):
        return all(map(is_unset, value.values()))
    return value is None or value is False or (isinstance(value, (str, list)) and not value)


def _same(value: Any, other: Any) -> bool:
    return isinstance(value, bool) == isinstance(other, bool) and value == other


# What searches are told. Encoders search nothing; see generation.py for what writes text.
GENERATION = {
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_ensemble_weight",
    "assistant_lookbehind",
    "bad_words_ids",
    "begin_suppress_tokens",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "constraints",
    "continuous_batching_config",
    "decoder_start_token_id",
    "disable_compile",
    "diversity_penalty",
    "do_sample",
    "dola_layers",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "force_bos_token_to_be_generated",
    "force_words_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "guidance_scale",
    "is_assistant",
    "length_penalty",
    "low_memory",
    "max_cache_len",
    "max_length",
    "max_matching_ngram_size",
    "max_new_tokens",
    "max_time",
    "min_length",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_logits",
    "output_scores",
    "penalty_alpha",
    "prefix",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "remove_invalid_values",
    "renormalize_logits",
    "repetition_penalty",
    "return_dict_in_generate",
    "sequence_bias",
    "speculation_type",
    "stop_strings",
    "suppress_tokens",
    "target_lookbehind",
    "temperature",
    "token_healing",
    "top_h",
    "top_k",
    "top_p",
    "typical_p",
    "use_mtp",
    "watermarking_config",
}

# What every `config.json` may hold, whatever the family.
COMMON = Fields(
    understood={"architectures", "id2label", "label2id", "model_type", "num_labels", "problem_type"}
    | {"tie_word_embeddings"},
    harmless={
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_attn_implementation_internal",
        "_commit_hash",
        "_experts_implementation",
        "_experts_implementation_internal",
        "_flash_attn_2_enabled",
        "_name_or_path",
        "_num_labels",
        "_output_attentions",
        "_post_init_done",
        "attn_implementation",
        "bos_token_id",
        "chunk_size_feed_forward",
        "classifier_dropout",
        "cls_token_id",
        "dtype",
        "eos_token_id",
        "eos_token_ids",
        "export_model_type",
        "finetuning_task",
        "gradient_checkpointing",
        "initializer_range",
        "language",
        "mask_token_id",
        "name",
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "pad_token_id",
        "return_dict",
        "sep_token_id",
        "task_specific_params",
        "tf_legacy_loss",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "transformers.js_config",
        "transformers_version",
        "unk_token_id",
        "use_bfloat16",
        "use_cache",
        "vocab_size_or_config_json_file",
        "xla_device",
        *GENERATION,
    },
    only={
        "add_cross_attention": Only((False,), "lets the blocks attend to another model"),
        "is_decoder": Only((False,), "hides from each token what comes after it"),
        "position_embedding_type": Only(("absolute",), "changes how positions are told"),
        "tie_encoder_decoder": Only((False,), "shares the weights of two stacks"),
    },
)
