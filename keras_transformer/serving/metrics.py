"""Metrics of the server, for Prometheus."""

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 24, 32, 64)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        name = "keras_transformer"
        own = self.registry
        self.requests = Counter(
            f"{name}_requests", "Requests.", ["protocol", "method", "code"], registry=own
        )
        self.seconds = Histogram(
            f"{name}_request_seconds",
            "Seconds until the answer.",
            ["protocol", "method"],
            buckets=SECONDS,
            registry=own,
        )
        self.batch_rows = Histogram(
            f"{name}_batch_rows", "Rows in a batch.", buckets=ROWS, registry=own
        )
        self.queue_rows = Gauge(f"{name}_queue_rows", "Rows that wait.", registry=own)
        self.streams = Gauge(f"{name}_streams", "Texts that are streamed.", registry=own)
        self.versions = Gauge(f"{name}_versions", "Versions that are loaded.", registry=own)

    def text(self) -> tuple[bytes, str]:
        """Return what Prometheus reads, and its type."""
        return prometheus_client.generate_latest(
            self.registry
        ), prometheus_client.CONTENT_TYPE_LATEST
