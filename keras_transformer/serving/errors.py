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
