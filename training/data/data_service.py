"""Making batches on other machines, by the tf.data service.

    keras-transformer data-service --kind dispatcher --port 5050
    keras-transformer data-service --kind worker --port 5051 --dispatcher grpc://HOST:5050

The trainer sends its data set to the dispatcher, and the service's workers run it: they must find
the text files under the same names, and have this package's version of TensorFlow and tf.text.

With one worker nothing is lost. With several, the order is, and with it resuming exactly: each
makes whole epochs, so that several epochs are under way at once, and batches come as they are
ready. No pair comes twice in an epoch, but if a worker of the service dies, the rest of its epoch
never comes; and in a run that goes on, pairs of the epochs that were under way may come again or
be left out.
"""

import socket
from typing import Literal

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.text import wordpiece  # noqa: F401  (it loads the ops of tf.text)

SECONDS_TO_ANSWER = 5


def on_data_service(batches: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """Have a data set made by a tf.data service.

    Args:
        batches: A data set that begins with numbers of epochs. The service deals the numbers out
            to its workers, so that no two of them make the same epoch.
        address: The dispatcher's, such as `grpc://host:5050`.

    Returns:
        The same elements; in the same order if the service has a single worker.

    Raises:
        InputError: If nothing answers there.
    """
    host, port = _host_and_port(address)
    try:
        socket.create_connection((host, port), SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise InputError(
            f"No tf.data service answers at {address}: {error}. Start its dispatcher and a worker, "
            "or train without --data-service."
        ) from None
    # Without a job's name each trainer has a job of its own, with its own share of the corpus.
    dynamic = tf.data.experimental.service.ShardingPolicy.DYNAMIC
    return batches.apply(tf.data.experimental.service.distribute(dynamic, address))


def serve(
    kind: Literal["dispatcher", "worker"],
    port: int = 0,
    dispatcher: str | None = None,
    host: str | None = None,
) -> tf.data.experimental.service.DispatchServer | tf.data.experimental.service.WorkerServer:
    """Start a part of a tf.data service; a service is one dispatcher and any number of workers.

    Args:
        kind: Which part.
        port: Where it listens; 0 for any port that is free.
        dispatcher: Of a worker, the dispatcher's address.
        host: Of a worker, the name under which trainers reach it; this machine's if None.

    Returns:
        The server, which runs until it is deleted. To wait for ever take
        `threading.Event().wait()`, which Ctrl-C ends, and not the server's `join()`.

    Raises:
        InputError: If the arguments do not fit, or the port is taken.
    """
    service = tf.data.experimental.service
    if not 0 <= port < 1 << 16:
        raise InputError(f"port must be from 0 to 65535, got {port}.")
    if (kind == "worker") != (dispatcher is not None):
        raise InputError("A worker needs the address of its --dispatcher; a dispatcher has none.")
    try:
        if dispatcher is None:
            return service.DispatchServer(service.DispatcherConfig(port=port))
        address = "{}:{}".format(*_host_and_port(dispatcher))
        name = f"{host or socket.gethostname()}:%port%"
        return service.WorkerServer(service.WorkerConfig(address, name, port))
    except RuntimeError as error:
        raise InputError(f"The {kind} can't listen at port {port}: {error}.") from None


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("grpc://").rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(
            f"{address} is not the address of a tf.data service, such as grpc://host:5050."
        )
    return host, int(port)
