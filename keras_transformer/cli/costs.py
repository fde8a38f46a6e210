"""The commands that compute what a model costs, by formula: memory, flops, params."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from keras_transformer.cli.terminal import make_printer
from keras_transformer.errors import InputError
from keras_transformer.training.config import Optimizer, Precision

OPERATIONS = {  # of `MultiplyAdds`, in words
    "input_projections": "queries, keys, values",
    "scores": "scores",
    "mixing": "mixing",
    "output_projection": "output of the heads",
    "feed_forward": "feed-forward",
    "logits": "logits",
}
PARAMETERS = {  # of `Parameters`, in words
    "embeddings": "embeddings",
    "positions": "positions",
    "attention": "attention",
    "feed_forward": "feed-forward",
    "norms": "norms",
    "head": "head and logits",
}


def memory(
    preset: Annotated[str, typer.Option(help="Model: tiny, small, base or big.")] = "tiny",
    vocab_size: Annotated[int, typer.Option(help="Pieces in the vocabulary.", min=4)] = 8000,
    batch_tokens: Annotated[
        int, typer.Option(help="Tokens in one side of a batch on one device.", min=1)
    ] = 4096,
    length: Annotated[int, typer.Option(help="Tokens in each row.", min=1)] = 64,
    precision: Annotated[Precision, typer.Option(help="Precision of the computation.")] = "float32",
    optimizer: Annotated[Optimizer, typer.Option(help="The optimizer.")] = "adam",
    ema: Annotated[bool, typer.Option("--ema", help="Keep a moving average.")] = False,
    accumulate: Annotated[int, typer.Option(help="Number of micro-batches in a batch.", min=1)] = 1,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute activations twice, to save memory.")
    ] = False,
) -> None:
    """Show by formula the memory that a training step takes.

    The rows below the first show what each technique saves.
    """
    from keras_transformer.models.config import TransformerConfig
    from keras_transformer.training.memory import count_parameters, memory_table

    config = TransformerConfig.preset(preset, vocab_size, recompute=recompute)
    rows = max(1, batch_tokens // length)
    console = make_printer()
    console.print(
        f"{preset}: {count_parameters(config):,} parameters, {rows} rows of {length} tokens"
    )
    console.print(
        memory_table(
            config,
            rows,
            length,
            precision=precision,
            optimizer=optimizer,
            ema=ema,
            accumulate=accumulate,
        )
    )


def flops(
    preset: Annotated[str, typer.Option(help="Model: tiny, small, base or big.")] = "base",
    n: Annotated[int, typer.Option(help="Tokens in source and in target.", min=1)] = 512,
    d: Annotated[
        int | None,
        typer.Option(help="Width, if not the preset's; the feed-forward's grows with it.", min=1),
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Pieces in the vocabulary.", min=4)] = 8000,
    rows: Annotated[int, typer.Option(help="Rows in a batch.", min=1)] = 1,
) -> None:
    """Show by formula what training and decoding compute."""
    from keras_transformer.models import flops as count
    from keras_transformer.models.config import TransformerConfig

    config = TransformerConfig.preset(preset, vocab_size)
    if d is not None:
        d_ff = max(1, d * config.d_ff // config.d_model)
        config = dataclasses.replace(config, d_model=d, d_ff=d_ff)
    attention = count.attention(config.d_model, n, n)
    projections = attention.input_projections + attention.output_projection
    console = make_printer()
    console.print(
        f"{preset}: {config.num_layers}+{config.decoder_layers} layers, d = {config.d_model:,}, "
        f"d_ff = {config.d_ff:,}, {vocab_size:,} pieces; n = {n:,}, rows: {rows:,}\n\n"
        f"An attention of n tokens to themselves, in multiply-adds, with any number of heads:\n"
        f"  projections         4 n d^2 = {projections:,}\n"
        f"  scores and mixing   2 n^2 d = {attention.scores + attention.mixing:,}\n"
        f"  equal at            n = 2 d = {2 * config.d_model:,}\n\n"
        "A multiply-add is 2 floating-point operations, which are counted below. A training step\n"
        "is 3 times the forward pass; a decoding step finds earlier keys and values in caches.\n"
    )
    console.print(
        _flops_table(
            "training step",
            {
                "encoder layer": 3 * rows * count.encoder_block(config, n),
                "decoder layer": 3 * rows * count.decoder_block(config, n, n),
                "in all": rows * count.training_step(config, n, n),
            },
        )
    )
    console.print()
    console.print(
        _flops_table(
            f"decoding step {n:,}",
            {
                "decoder layer": rows * count.decoder_block_step(config, n, n),
                "in all": rows * count.decoding_step(config, n, n),
            },
        )
    )


def _flops_table(title: str, columns: Mapping[str, Any]) -> Table:
    table = Table(title, *columns, box=None, pad_edge=False, header_style="")
    for column in table.columns[1:]:
        column.justify = "right"
    for term, words in OPERATIONS.items():
        table.add_row(words, *(_cell(2 * getattr(c, term), c.flops) for c in columns.values()))
    table.add_row("total", *(_cell(c.flops, c.flops) for c in columns.values()))
    return table


def _cell(flops: float, total: float) -> str:
    return f"{in_words(flops)} {flops / total:7.1%}"


def in_words(count: float) -> str:
    """Write a number of operations for people."""
    for unit in ("", " k", " M", " G", " T"):
        if count < 1000:
            return f"{count:.1f}{unit}" if unit else f"{count}"
        count /= 1000
    return f"{count:,.1f} P"


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
    """Show by formula how many parameters a model has."""
    from keras_transformer.models.parameters import count_parameters

    config = _configuration(preset, vocab_size, set_ or [])
    count = count_parameters(config)
    console = make_printer()
    console.print(
        f"{preset}: family {config.family}, {_layers(config)}, d = {config.d_model:,}, "
        f"d_ff = {config.d_ff:,}, heads: {config.num_heads}\n"
    )
    table = Table("parameters", "", "share", box=None, pad_edge=False, header_style="")
    for column in table.columns[1:]:
        column.justify = "right"
    for term, words in PARAMETERS.items():
        part = getattr(count, term)
        table.add_row(words, f"{part:,}", f"{part / count.total:.1%}")
    table.add_row("total", f"{count.total:,}", "100.0%")
    console.print(table)
    console.print()
    console.print(_about_heads(config))


def _layers(config: Any) -> str:
    decoder = getattr(config, "decoder_layers", None)
    return f"{config.num_layers}+{decoder} layers" if decoder else f"{config.num_layers} layers"


def _about_heads(config: Any) -> str:
    """Explain what the number of heads changes: nothing, where heads share the width (C10)."""
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
        for term, words in PARAMETERS.items()
        if len({getattr(count, term) for count in counts.values()}) > 1
    ]
    rows = "\n".join(f"  heads: {heads:>2}   {total:,}" for heads, total in totals.items())
    return f"The number of heads changes {' and '.join(changing)} alone: {_why(config)}.\n{rows}"


def _why(config: Any) -> str:
    reasons = {
        "the width of a head is given": config.head_width is not None,
        "the number of heads of keys and values is given": config.num_kv_heads is not None,
        "each head has biases of its own for distances": config.positions == "buckets",
        "vectors of distances are as wide as a head": config.positions == "shaw",
    }
    return " and ".join(reason for reason, holds in reasons.items() if holds)


def _configuration(preset: str, vocab_size: int | None, settings: Sequence[str]) -> Any:
    from keras_transformer.models.families import config_of_preset
    from keras_transformer.options import parse_fields

    kind = config_of_preset(preset)
    changes = parse_fields("--set", kind, settings)
    if vocab_size is None and "vocabulary_size" not in changes and not kind.is_complete(preset):
        raise InputError(f"The preset {preset!r} has no vocabulary: give --vocab-size.")
    return kind.preset(preset, vocab_size, **changes)
