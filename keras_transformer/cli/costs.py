"""The command `flops`."""

import dataclasses
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

TERMS = {  # of `MultiplyAdds`, in words
    "input_projections": "queries, keys, values",
    "scores": "scores",
    "mixing": "mixing",
    "output_projection": "output of the heads",
    "feed_forward": "feed-forward",
    "logits": "logits",
}


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
    """Show by formula what training and decoding compute, and what for."""
    from keras_transformer.models import flops as count
    from keras_transformer.models.config import TransformerConfig

    config = TransformerConfig.preset(preset, vocab_size)
    if d is not None:
        d_ff = max(1, d * config.d_ff // config.d_model)
        config = dataclasses.replace(config, d_model=d, d_ff=d_ff)
    attention = count.attention(config.d_model, n, n)
    projections = attention.input_projections + attention.output_projection
    console = Console(soft_wrap=True, highlight=False)
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
        _table(
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
        _table(
            f"decoding step {n:,}",
            {
                "decoder layer": rows * count.decoder_block_step(config, n, n),
                "in all": rows * count.decoding_step(config, n, n),
            },
        )
    )


def _table(title, columns):
    table = Table(title, *columns, box=None, pad_edge=False, header_style="")
    for column in table.columns[1:]:
        column.justify = "right"
    for term, words in TERMS.items():
        table.add_row(words, *(_cell(2 * getattr(c, term), c.flops) for c in columns.values()))
    table.add_row("total", *(_cell(c.flops, c.flops) for c in columns.values()))
    return table


def _cell(flops, total):
    return f"{in_words(flops)} {flops / total:7.1%}"


def in_words(count: float) -> str:
    """Write a number of operations for people."""
    for unit in ("", " k", " M", " G", " T"):
        if count < 1000:
            return f"{count:.1f}{unit}" if unit else f"{count}"
        count /= 1000
    return f"{count:,.1f} P"
