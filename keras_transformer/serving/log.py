"""The server's log: one JSON object a line on standard error, or colours on a terminal."""

import sys

import structlog

log = structlog.get_logger()


def set_up() -> None:
    """Write to standard error."""
    # No values of variables, which hold what people wrote.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    json = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([console] if sys.stderr.isatty() else json),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
