"""Errors that a client gets, by gRPC's names, and what HTTP calls them."""

# The same as TensorFlow Serving's.
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "DEADLINE_EXCEEDED": 504,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
}
# What statuses mean that came without an error in gRPC's words.
CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        code: One of `HTTP_STATUS`.
        message: What the client reads. It holds no path and nothing of the server's insides.
        status: HTTP's status, where it says more than the code does.
    """

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or HTTP_STATUS[code]


class ServerError(Exception):
    """The server refused a request, or could not be reached.

    Args:
        code: gRPC's name for what happened, such as `NOT_FOUND`, whatever the protocol.
        message: The server's words.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
