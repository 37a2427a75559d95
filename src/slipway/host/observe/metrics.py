"""What the host counts, in its own Prometheus registry: nothing global, nothing on import."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (
    0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30,
)  # fmt: skip
"""A tiny model answers in under a millisecond, a large one in seconds."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All series of one host. Label values come from contracts and codes, never from callers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "slipway_requests",
            "Inference requests by the version that answered; code is ok or the error's.",
            ["model", "version", "code"],
            registry=self.registry,
        )
        self.errors = Counter(
            "slipway_errors",
            "Refused requests of every kind, those that name no model too.",
            ["code"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "slipway_request_seconds",
            "From the complete request to its answer, for answered requests.",
            ["model", "version"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "slipway_requests_in_flight", "Requests being answered.", registry=self.registry
        )
        self.loaded = Gauge(
            "slipway_loaded",
            "1 for each loaded version; role is stable, candidate or idle.",
            ["model", "version", "role"],
            registry=self.registry,
        )
        self.serial = Gauge(
            "slipway_channel_serial",
            "Serial of the channel applied last.",
            ["model"],
            registry=self.registry,
        )
        self.refused = Counter(
            "slipway_bundles_refused", "Bundles not loaded.", ["model"], registry=self.registry
        )
        self.alarms = Counter(
            "slipway_alarms",
            "Channels and beats that someone may have tampered with.",
            ["model"],
            registry=self.registry,
        )
        self.lease_drops = Counter(
            "slipway_lease_drops",
            "Candidates dropped because no beat came.",
            ["model"],
            registry=self.registry,
        )
        self.shadows = Counter(
            "slipway_shadow_requests",
            "Requests repeated on a shadow candidate; outcome is compared, failed or skipped.",
            ["model", "version", "outcome"],
            registry=self.registry,
        )
        self.shadow_difference = Gauge(
            "slipway_shadow_difference_max",
            "Largest absolute difference of any output from the stable version's.",
            ["model", "version"],
            registry=self.registry,
        )
        self.store_reachable = Gauge(
            "slipway_store_reachable",
            "1 if the last look at the store succeeded.",
            registry=self.registry,
        )

    def render(self) -> bytes:
        """Return all series in Prometheus' text format."""
        return generate_latest(self.registry)
