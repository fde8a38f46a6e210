"""The parts that all kinds of `tokenizer.json` share."""

from keras_transformer.text.hugging_face.fields import Fields


def parts_of(fields: Fields, name: str, inner: str) -> list[Fields]:
    """Take a component, or the components of a sequence, or none.

    Args:
        fields: The file.
        name: Name of the component.
        inner: Name of the list in a sequence.
    """
    where = f"tokenizer.json: {name}"
    value = fields.take(name, dict, None)
    if value is None:
        return []
    waiting, found = [value], []
    while waiting:
        entry = Fields(where, waiting.pop(0))
        if entry.peek("type") == "Sequence":
            entry.take("type", str)
            waiting = [*entry.take(inner, list), *waiting]
            entry.done()
        else:
            found.append(entry)
    return found


def component(fields: Fields, name: str, kind: str, inner: str) -> Fields:
    """Take a component that must be of one type, alone or in a sequence of one.

    Args:
        fields: The file.
        name: Name of the component.
        kind: Its type.
        inner: Name of the list in a sequence.

    Raises:
        ValueError: If it is of another type, not there, or not alone.
    """
    parts = parts_of(fields, name, inner)
    kinds = [part.take("type", str, None) for part in parts]
    if kinds != [kind]:
        told = " and ".join(map(repr, kinds)) or "nothing"
        raise ValueError(f"tokenizer.json: {name} is {told}, which is not supported; {kind!r} is.")
    return parts[0]


def vocabulary_of(model: Fields) -> list[str]:
    """Take the pieces of a model in the order of their ids.

    Raises:
        ValueError: If the ids are not 0, 1 and so on.
    """
    ids = model.take("vocab", dict)
    if not all(type(number) is int for number in ids.values()):
        raise ValueError(f"{model.where}: vocab does not give a number for each piece.")
    pieces = sorted(ids, key=lambda piece: ids[piece])
    for i, piece in enumerate(pieces):
        if ids[piece] != i:
            raise ValueError(
                f"{model.where}: vocab should have id {i} once, and {piece!r} has {ids[piece]}."
            )
    return pieces
