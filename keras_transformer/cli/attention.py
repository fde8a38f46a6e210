"""The command that shows who attends to whom: attention."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from keras_transformer.cli.checks import check_file_free
from keras_transformer.cli.terminal import make_console
from keras_transformer.errors import InputError


def attention(
    model: Annotated[Path, typer.Option(help="A run folder.")],
    text: Annotated[str, typer.Option(help="Source text, or the text that is read.")],
    output: Annotated[Path, typer.Option(help="Picture (.png) or numbers (.json) to write.")],
    target: Annotated[
        str | None, typer.Option(help="Target text; what the model writes if not given.")
    ] = None,
    kind: Annotated[
        Literal["encoder", "decoder", "cross"] | None,
        typer.Option(help="Which attention is drawn. [default: cross, or the one there is]"),
    ] = None,
    layer: Annotated[int, typer.Option(help="Which block is drawn, from 1; 0 for the last.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace the output file.")] = False,
) -> None:
    """Draw who attends to whom while a model reads a text.

    A model that writes also shows how it writes its target. The numbers are those of all blocks:
    encoder, decoder and cross, each a list of blocks, heads, rows and columns. A model that is an
    encoder or a decoder alone has one of them.
    """
    if not (model / "config.json").is_file():
        raise InputError(f"{model} is not a run folder.")
    if output.suffix not in (".png", ".json"):
        raise InputError(f"{output} has to end in .png or .json.")
    check_file_free(output, overwrite)
    from keras_transformer.artefacts.artefact import sees
    from keras_transformer.export.runtime import load
    from keras_transformer.files import replacing

    servable: Any = load(model)  # a run's, which has its model
    blocks = servable.model.config.num_layers
    if not 0 <= layer <= blocks:
        raise InputError(f"There is no layer {layer}; the model has {blocks}.")
    if sees(servable):
        raise InputError(
            f"{model} reads pictures: there is no text whose attention could be drawn."
        )
    writes = "align" in servable.signatures
    if writes:
        target = target if target is not None else servable.run([text])[0][0][0]
        maps, sources, targets = _of_pair(servable, text, target)
    elif target is not None:
        raise InputError(f"{model} writes no target for a text; leave out --target.")
    else:
        maps, sources = _of_text(servable, text)
        targets = sources
    kind = kind or ("cross" if writes else next(iter(maps)))
    if kind not in maps:
        raise InputError(f"{model} has no attention of the kind {kind}; it has {', '.join(maps)}.")
    with replacing(output) as new:
        if output.suffix == ".json":
            fields = {name: [w.round(6).tolist() for w in some] for name, some in maps.items()}
            pieces = {"source_pieces": sources, "target_pieces": targets}
            pieces = pieces if writes else {"pieces": sources}
            new.write_text(json.dumps({**pieces, **fields}, ensure_ascii=False), "utf-8")
        else:
            from PIL import Image

            from keras_transformer.training.pictures import attention_picture

            rows = sources if kind == "encoder" else targets
            columns = targets if kind == "decoder" else sources
            picture = attention_picture(maps[kind][layer - 1], rows, columns)
            Image.fromarray(picture).save(new, format="png")
    what = f"{text!r} -> {target!r}" if writes else repr(text)
    make_console().print(f"{output}: {what}", markup=False)


def _of_pair(translator: Any, text: str, target: str) -> tuple[Any, ...]:
    """Return maps of every kind, each of blocks `(H, T, S)`, and the pieces of both sides."""
    for name, given in (("text", text), ("target", target)):
        _warn_if_cut(translator, name, given)
    aligned = translator.align([text], [target])[0]
    begin = translator.model.config.begin_id
    source_ids, target_ids = aligned.source_ids, [begin, *aligned.target_ids[:-1]]
    maps = _maps(translator.model, {"source_ids": [source_ids], "target_ids": [target_ids]})
    return maps, *(_pieces(translator, ids) for ids in (source_ids, target_ids))


def _of_text(servable: Any, text: str) -> tuple[dict[str, list[Any]], list[str]]:
    """Return the maps of an encoder or a decoder alone, and the pieces of the text."""
    import numpy as np

    outputs = servable.call("tokenize", text=[text])
    _warn_if_cut(servable, "text", text, outputs)
    config = servable.model.config
    ids = [int(i) for i in outputs["ids"][0] if i != config.padding_id]
    if config.family != "gpt":
        ids = [config.begin_id, *ids[: servable.max_length - 2], config.end_id]
    inputs: dict[str, Any] = {"token_ids": [ids[: config.max_length]]}
    for tensor in servable.model.inputs:
        if tensor.name not in inputs:  # segments, and places of masks, which change nothing here
            inputs[tensor.name] = np.zeros_like(inputs["token_ids"])
    return _maps(servable.model, inputs), _pieces(servable, ids)


def _maps(model: Any, inputs: Mapping[str, Any]) -> dict[str, list[Any]]:
    import numpy as np

    from keras_transformer.models import attention_maps

    maps = attention_maps(model, {name: np.array(ids, "int32") for name, ids in inputs.items()})
    return {name: [np.array(weights)[0] for weights in some] for name, some in maps.items()}


def _pieces(servable: Any, ids: Iterable[int]) -> list[str]:
    return [servable.tokenizer.vocabulary[i] for i in ids]


def _warn_if_cut(
    servable: Any, name: str, text: str, outputs: dict[str, Any] | None = None
) -> None:
    outputs = outputs or servable.call("tokenize", text=[text])
    if outputs["truncated"][0]:
        make_console().print(
            f"warning: the {name} is longer than the model takes and was cut", style="yellow"
        )
