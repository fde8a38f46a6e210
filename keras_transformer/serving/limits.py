"""Limits of the server, so that no request can take all of it."""

import dataclasses

from keras_transformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class Limits:
    """The server's limits.

    Raises:
        InputError: If a value is below 1; the message names it.
    """

    batch_size: int = 32  # most rows in one call of the model
    queue_rows: int = 1024  # rows that may wait; what comes on top is refused at once
    request_rows: int = 512  # most rows in one request
    text_length: int = 20_000  # most characters in one text
    body_bytes: int = 8 * 2**20  # most bytes in one request
    requests: int = 512  # requests that are dealt with at once
    streams: int = 4  # texts that are streamed at once
    seconds: float = 30.0  # until a request is given up

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through."""
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) >= (0.001 if field.name == "seconds" else 1):
                raise InputError(
                    f"--{field.name.replace('_', '-')} must be positive, got "
                    f"{getattr(self, field.name)}."
                )
