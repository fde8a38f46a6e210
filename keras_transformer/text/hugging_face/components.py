"""What the kinds of `tokenizer.json` have in common."""

from keras_transformer.text.hugging_face.fields import Fields


def component(fields: Fields, name: str, kind: str) -> Fields:
    """Take a component that must be of one type.

    Raises:
        ValueError: If it is of another, or not there.
    """
    where = f"tokenizer.json: {name}"
    entry = Fields(where, fields.take(name, dict, None) or {})
    found = entry.take("type", str, None)
    if found != kind:
        raise ValueError(f"{where} is of the type {found!r}, which is not supported; {kind!r} is.")
    return entry


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
