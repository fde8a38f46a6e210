"""Post-processors: what a text is framed with has to be what our models frame it with."""

from collections.abc import Mapping
from typing import Any

from keras_transformer.text.hugging_face.fields import Fields
from keras_transformer.text.tokenizer import Tokenizer

_WHERE = "tokenizer.json: post_processor"
# What texts are framed with, by `model_type`; encoders have both.
_FRAMES = {
    "gpt2": (),
    "t5": ("end",),
    "mt5": ("end",),
    "marian": ("end",),
}


def check_framing(processor: Any, tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
    """Make sure that a post-processor frames texts as our models do.

    Args:
        processor: The component, or None.
        tokenizer: The tokeniser, whose special tokens frame.
        config: The content of `config.json`.

    Raises:
        ValueError: If it does something else, or is not understood.
    """
    single, pair = _frames(processor)
    roles = _FRAMES.get(config.get("model_type", ""), ("begin", "end"))
    if not config.get("model_type") and tokenizer.begin_id is None:
        roles = ("end",)
    ids = {role: getattr(tokenizer, f"{role}_id") for role in ("begin", "end")}
    before = [ids["begin"]] if "begin" in roles else []
    after = [ids["end"]] if "end" in roles else []
    names = tokenizer.vocabulary

    def told(frame: list[Any]) -> str:
        told = [
            x if isinstance(x, str) else dict(enumerate(names)).get(x, f"id {x}") for x in frame
        ]
        return " ".join(told)

    wanted = [*before, "A", *after]
    if single != wanted:
        raise ValueError(
            f"{_WHERE} makes {told(single)!r} of a text A, but a model of the type "
            f"{config.get('model_type')!r} gets {told(wanted)!r} here."
        )
    pairs = ([*wanted, "B", *after], [*wanted, *after, "B", *after])
    if pair is not None and pair not in pairs:
        raise ValueError(
            f"{_WHERE} makes {told(pair)!r} of two texts, which is not supported; only "
            f"{' or '.join(repr(told(p)) for p in pairs)} is."
        )


def _frames(processor: Any) -> tuple[list[Any], list[Any] | None]:
    """Return what a text A, and two texts A and B, become: ids and names of texts."""
    if processor is None:
        return ["A"], None
    fields = Fields(_WHERE, processor)
    kind = fields.take("type", str)
    if kind == "ByteLevel":
        fields.ignore("add_prefix_space", "trim_offsets", "use_regex")  # offsets alone
        fields.done()
        return ["A"], None
    if kind == "Sequence":
        made = [_frames(part) for part in fields.take("processors", list)]
        fields.done()
        framing = [frame for frame in made if frame[0] != ["A"]]
        if len(framing) > 1:
            raise ValueError(f"{_WHERE} frames a text more than once, which is not supported.")
        return framing[0] if framing else (["A"], None)
    if kind in ("BertProcessing", "RobertaProcessing"):
        sep, cls = (_id_of(fields.take(name, list), name) for name in ("sep", "cls"))
        fields.ignore("trim_offsets", "add_prefix_space")  # offsets alone
        fields.done()
        twice = [sep] if kind == "RobertaProcessing" else []
        return [cls, "A", sep], [cls, "A", sep, *twice, "B", sep]
    if kind == "TemplateProcessing":
        tokens = fields.take("special_tokens", dict, {})
        single = _template(fields.take("single", list), tokens, "single")
        pair = _template(fields.take("pair", list), tokens, "pair")
        fields.done()
        return single, pair
    raise ValueError(f"{_WHERE}: the type {kind!r} is not supported.")


def _id_of(value: Any, name: str) -> int:
    if len(value) != 2 or type(value[1]) is not int:
        raise ValueError(f"{_WHERE}: {name} is {value!r}, but should be a token and its id.")
    return value[1]


def _template(parts: list[Any], tokens: dict[str, Any], name: str) -> list[Any]:
    made: list[Any] = []
    for part in parts:
        if not isinstance(part, dict) or len(part) != 1:
            raise ValueError(f"{_WHERE}: {name} has {part!r}, which is not understood.")
        (kind, content), *_ = part.items()
        entry = Fields(f"{_WHERE}: {name}", content)
        of = entry.take("id", str)
        second = "B" in made or of == "B"
        segment = entry.take("type_id", int)
        if segment not in ((0, 1) if second else (0,)):
            raise ValueError(
                f"{_WHERE}: {name} gives {of!r} the type_id {segment}, which is not supported."
            )
        entry.done()
        if kind == "Sequence":
            made.append(of)
        elif kind == "SpecialToken":
            token = tokens.get(of)
            ids = token.get("ids") if isinstance(token, dict) else None
            if not isinstance(ids, list) or not all(type(number) is int for number in ids):
                raise ValueError(f"{_WHERE}: special_tokens has no ids of {of!r}.")
            made += ids
        else:
            raise ValueError(f"{_WHERE}: {name} has {kind!r}, which is not understood.")
    return made
