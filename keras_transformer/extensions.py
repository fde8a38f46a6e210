"""Tables that a package of one's own can extend: attentions, families of models, tasks.

A row comes from one of three places, which are looked through in this order: this package, a call
of `Table.register`, and the entry points of installed packages. An entry point is one line of
`pyproject.toml`, so that the command line finds the row too:

    [project.entry-points."keras_transformer.attentions"]
    cosine = "cosine_attention:CosineAttention"
"""

import importlib.metadata
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from keras_transformer.errors import InputError

Row = TypeVar("Row")


class Table(Mapping[str, Row], Generic[Row]):
    """Classes or instances of a class by name. It is read like a dict.

    Entry points are looked up each time and never kept: looking at them takes a few milliseconds,
    and only happens for a name that is not in the table itself, or when all names are listed.

    Args:
        group: Group of entry points, such as "keras_transformer.attentions".
        kind: Words for a row in messages, such as "attention".
        base: The class that every row is derived from, or is an instance of.
        rows: The rows of this package.
        instances: Whether rows are instances, and not classes.
    """

    def __init__(
        self,
        group: str,
        kind: str,
        base: type,
        rows: Mapping[str, Row],
        *,
        instances: bool = False,
    ) -> None:
        self.instances = instances
        self.group = group
        self.kind = kind
        self.base = base
        self._rows = dict(rows)

    def register(self, name: str, row: Row) -> Row:
        """Add a row for this process; an entry point adds it for every process.

        Args:
            name: What it is chosen by.
            row: The class.

        Returns:
            The class.

        Raises:
            InputError: If the name is taken by another class, or the class is of another kind.
        """
        if name in self and self[name] is not row:
            article = "an" if self.kind[0] in "aeiou" else "a"
            raise InputError(
                f"There is already {article} {self.kind} {name!r}; choose another name."
            )
        self._rows[name] = self._check(name, row, f"register({name!r}, ...)")
        return row

    def __getitem__(self, name: str) -> Row:
        if name in self._rows:
            return self._rows[name]
        return self._load(self._entry_points()[name])

    def __contains__(self, name: object) -> bool:
        return name in self._rows or name in self._entry_points()

    def __iter__(self) -> Iterator[str]:
        yield from self._rows
        yield from self._entry_points()

    def __len__(self) -> int:
        return len(self._rows) + len(self._entry_points())

    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        """Return the entry points of other packages by name.

        Raises:
            InputError: If two of them, or one and a row that is here, have the same name.
        """
        found: dict[str, importlib.metadata.EntryPoint] = {}
        for point in importlib.metadata.entry_points(group=self.group):
            if point.name in self._rows:
                if self._is_loaded(point):
                    continue
                raise InputError(
                    f"{self._described(point)} has the name of another {self.kind}; rename it."
                )
            if point.name in found and found[point.name].value != point.value:
                raise InputError(
                    f"{self._described(point)} has the name of {found[point.name].value!r}; "
                    "rename one of them."
                )
            found[point.name] = point
        return found

    def _is_loaded(self, point: importlib.metadata.EntryPoint) -> bool:
        """Return whether the row of that name is the class that the entry point names."""
        row = self._rows[point.name]
        return f"{row.__module__}:{getattr(row, '__qualname__', '')}" == point.value

    def _load(self, point: importlib.metadata.EntryPoint) -> Row:
        try:
            row = point.load()
        except (ImportError, AttributeError) as error:
            raise InputError(f"{self._described(point)} can't be loaded: {error}.") from error
        return self._check(point.name, row, self._described(point))

    def _check(self, name: str, row: Any, where: str) -> Any:
        if self.instances:
            fits, wanted = isinstance(row, self.base), f"a {self.base.__name__}"
        else:
            fits = isinstance(row, type) and issubclass(row, self.base)
            wanted = f"a class derived from {self.base.__name__}"
        if not fits:
            raise InputError(f"{where} must give {wanted}, got {row!r}.")
        return row

    def _described(self, point: importlib.metadata.EntryPoint) -> str:
        package = f" of the package {point.dist.name!r}" if point.dist else ""
        return f"The entry point {point.name} = {point.value!r} in {self.group!r}{package}"
