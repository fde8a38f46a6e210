"""The command `params`."""

import dataclasses
import typing
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_transformer.errors import InputError

TERMS = {  # of `Parameters`, in words
    "embeddings": "embeddings",
    "positions": "positions",
    "attention": "attention",
    "feed_forward": "feed-forward",
    "norms": "norms",
    "head": "head and logits",
}


def params(
    preset: Annotated[
        str, typer.Option(help="Model: base, bert-base, gpt2, t5-small, vit-b-16 or another.")
    ] = "base",
    vocab_size: Annotated[
        int | None, typer.Option(help="Pieces in the vocabulary, if not the published ones.", min=4)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A field of the configuration, such as num_heads=4; repeatable."
        ),
    ] = None,
) -> None:
    """Show by formula how many parameters a model has, and what for."""
    from keras_transformer.models.parameters import count_parameters

    config = _configuration(preset, vocab_size, set_ or [])
    count = count_parameters(config)
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{preset}: family {config.family}, {_layers(config)}, d = {config.d_model:,}, "
        f"d_ff = {config.d_ff:,}, heads: {config.num_heads}\n"
    )
    table = Table("parameters", "", "share", box=None, pad_edge=False, header_style="")
    for column in table.columns[1:]:
        column.justify = "right"
    for term, words in TERMS.items():
        part = getattr(count, term)
        table.add_row(words, f"{part:,}", f"{part / count.total:.1%}")
    table.add_row("total", f"{count.total:,}", "100.0%")
    console.print(table)
    console.print()
    console.print(_about_heads(config))


def _layers(config):
    decoder = getattr(config, "decoder_layers", None)
    return f"{config.num_layers}+{decoder} layers" if decoder else f"{config.num_layers} layers"


def _about_heads(config):
    """Say what the number of heads changes: nothing, where heads share the width (C10)."""
    from keras_transformer.models.parameters import count_parameters

    counts = {}
    for heads in sorted({config.num_heads, *(2**i for i in range(6))}):
        try:
            counts[heads] = count_parameters(dataclasses.replace(config, num_heads=heads))
        except InputError:  # they do not divide the width, or make it odd
            continue
    totals = {heads: count.total for heads, count in counts.items()}
    if len(set(totals.values())) == 1:
        heads = ", ".join(map(str, totals))
        return (
            "The number of heads changes nothing: heads share the width, d_k = d / heads.\n"
            f"With {heads} heads: {totals.popitem()[1]:,} each."
        )
    changing = [
        words
        for term, words in TERMS.items()
        if len({getattr(count, term) for count in counts.values()}) > 1
    ]
    rows = "\n".join(f"  heads: {heads:>2}   {total:,}" for heads, total in totals.items())
    return f"The number of heads changes {' and '.join(changing)} alone: {_why(config)}.\n{rows}"


def _why(config):
    reasons = {
        "the width of a head is given": config.head_width is not None,
        "the number of heads of keys and values is given": config.num_kv_heads is not None,
        "each head has biases of its own for distances": config.positions == "buckets",
        "vectors of distances are as wide as a head": config.positions == "shaw",
    }
    return " and ".join(reason for reason, holds in reasons.items() if holds)


def _configuration(preset, vocab_size, settings):
    from keras_transformer.models.families import FAMILIES

    for cls in FAMILIES.values():
        if preset not in (presets := cls.config_class.presets):
            continue
        changes = dict(_setting(cls.config_class, text) for text in settings)
        own = "vocabulary_size" in presets[preset] or hasattr(cls.config_class, "vocabulary_size")
        if vocab_size is None and "vocabulary_size" not in changes and not own:
            raise InputError(f"The preset {preset!r} has no vocabulary: give --vocab-size.")
        return cls.config_class.preset(preset, vocab_size, **changes)
    families = "; ".join(
        f"{family}: {', '.join(cls.config_class.presets)}" for family, cls in FAMILIES.items()
    )
    raise InputError(f"There is no preset {preset!r}; choose one of these. {families}.")


def _setting(config_class, text):
    """Read NAME=VALUE, with the type that the field has."""
    name, separator, value = text.partition("=")
    types = typing.get_type_hints(config_class)
    names = [field.name for field in dataclasses.fields(config_class)]
    if not separator or name not in names:
        raise InputError(f"--set {text}: give NAME=VALUE, NAME one of {', '.join(names)}.")
    if typing.get_origin(types[name]) is typing.Literal:
        return name, value  # which the configuration checks
    choices = typing.get_args(types[name]) or (types[name],)
    for choice in choices:
        if choice is type(None) and value.lower() == "none":
            return name, None
        if choice is bool and value.lower() in ("true", "false"):
            return name, value.lower() == "true"
        if choice in (int, float, str):
            try:
                return name, choice(value)
            except ValueError:
                continue
    words = " or ".join("none" if choice is type(None) else choice.__name__ for choice in choices)
    raise InputError(f"--set {text}: the value has to be {words}.")
