"""What a monitor wants to know, in the text format of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "cl2cm_requests", "Requests answered", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "cl2cm_request_seconds",
            "From request to the end of the answer",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.under_way = Gauge("cl2cm_requests_under_way", "Being answered", registry=registry)
        self.refused = Counter(
            "cl2cm_refused", "Requests refused, by reason", ["reason"], registry=registry
        )
        self.batch = Histogram(
            "cl2cm_batch_queries",
            "Queries that were encoded together",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self.items = Gauge("cl2cm_items", "Items of the index", registry=registry)
        self.reloads = Counter("cl2cm_reloads", "Times a new index was taken", registry=registry)

    def text(self) -> bytes:
        """Give all of them as Prometheus reads them."""
        return generate_latest(self._registry)
