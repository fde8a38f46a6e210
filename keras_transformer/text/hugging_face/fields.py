"""Objects of JSON files, read so that no field is dropped in silence."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_MISSING: Any = object()


class Fields:
    """The fields of one JSON object, each of which is to be taken or to be left out on purpose.

    Args:
        where: What the object is called in messages, such as "tokenizer.json: model".
        values: The object.

    Raises:
        ValueError: If it is no object.
    """

    def __init__(self, where: str, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise ValueError(f"{where} is {_short(values)}, but should be a JSON object.")
        self.where = where
        self._left = dict(values)

    @classmethod
    def of_file(cls, path: Path) -> "Fields":
        """Read a file; one that is not there has no fields."""
        if not path.is_file():
            return cls(path.name, {})
        try:
            return cls(path.name, json.loads(path.read_bytes().decode("utf-8")))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{path.name} is damaged: {error}") from None

    def peek(self, name: str) -> Any:
        """Return a field, which is still to be taken; None if it is not there."""
        return self._left.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._left))

    def __contains__(self, name: str) -> bool:
        return self._left.get(name) is not None

    def take(self, name: str, kind: type | tuple[type, ...], default: Any = _MISSING) -> Any:
        """Take a field.

        Args:
            name: Its name.
            kind: The type, or types, that its value must have.
            default: What is returned where it is null or not there.

        Raises:
            ValueError: If it has another type, or is missing and has no default.
        """
        value = self._left.pop(name, None)
        if value is None and default is not _MISSING:
            return default
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(k.__name__ for k in kinds)
            raise ValueError(f"{self.where}: {name} is {_short(value)}, but should be of {names}.")
        return value

    def expect(self, name: str, *values: Any) -> None:
        """Take a field that must have one of some values, of which the first is its default.

        Raises:
            ValueError: If it has another.
        """
        value = self._left.pop(name, values[0])
        if not any(value == v and type(value) is type(v) for v in values):
            wanted = " or ".join(dict.fromkeys(json.dumps(v, ensure_ascii=False) for v in values))
            raise ValueError(
                f"{self.where}: {name} is {_short(value)}, which is not supported; only {wanted} "
                "is."
            )

    def ignore(self, *names: str) -> None:
        """Leave fields out that change no ids."""
        for name in names:
            self._left.pop(name, None)

    def done(self) -> None:
        """Make sure that no field is left.

        Raises:
            ValueError: If one is that is not null.
        """
        for name, value in self._left.items():
            if value is not None:
                raise ValueError(
                    f"{self.where}: {name} is {_short(value)}, and this field is not understood. "
                    "Remove it if the ids do not depend on it."
                )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 80 else f"{text[:77]}..."
