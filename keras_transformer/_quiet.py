"""Keep quiet what TensorFlow says before its logging is set up.

The messages are written to file descriptor 2 by C++ code that no setting reaches, so the descriptor
itself is turned away while TensorFlow loads. What Python raises is not affected.
"""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send file descriptor 2 to nowhere inside the block."""
    try:
        saved = os.dup(2)
    except OSError:  # there is no standard error to silence
        yield
        return
    sys.stderr.flush()
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
