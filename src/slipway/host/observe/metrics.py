"""What the host counts, in its own Prometheus registry: nothing global, nothing on import."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from weakref import WeakValueDictionary

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from slipway.host.observe.series import SECONDS, Series, render

__all__ = ["SECONDS", "Metrics", "Series"]

VERSIONS_KEPT: Final = 16
"""Per model, loaded or not. The text of one takes 0.6 ms of the event loop at each scrape, so a
year's versions must not stay."""


class Metrics:
    """All series of one host. Label values come from contracts and codes, never from callers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.drops: dict[str, Callable[[], int]] = {}
        """By the name of a log or file: how many records it had no room for."""
        self._series: WeakValueDictionary[tuple[str, str], Series] = WeakValueDictionary()
        self._kept: dict[str, deque[Series]] = {}
        self.registry.register(_Live(self))
        self.errors = self._counter(
            "errors", "Refused requests of every kind, those that name no model too.", "code"
        )
        self._in_flight = self._gauge("requests_in_flight", "Requests being answered.")
        self._loaded = self._gauge(
            "loaded", "1 for each loaded version; role is stable, candidate or idle.",
            "model", "version", "role",
        )  # fmt: skip
        self._serial = self._gauge("channel_serial", "Serial of the channel applied last.", "model")
        self._refused = self._counter("bundles_refused", "Bundles not loaded.", "model")
        self._alarms = self._counter(
            "alarms", "Channels and beats that someone may have tampered with.", "model"
        )
        self._lease_drops = self._counter(
            "lease_drops", "Candidates dropped because no beat came.", "model"
        )
        self._shadows = self._counter(
            "shadow_requests",
            "Requests repeated on a shadow candidate; outcome is compared, failed or skipped.",
            "model", "version", "outcome",
        )  # fmt: skip
        self._shadow_difference = self._gauge(
            "shadow_difference_max",
            "Largest absolute difference of any output from the stable version's.",
            "model", "version",
        )  # fmt: skip
        self._store_reachable = self._gauge(
            "store_reachable", "1 if the last look at the store succeeded."
        )
        self.connections = self._gauge("connections", "Open connections.", "listener")
        self.tls_days = self._gauge(
            "tls_days_left", "Days until the certificate expires.", "listener"
        )
        self.body_bytes = self._gauge(
            "body_bytes", "What the bodies of requests take that are not answered yet."
        )
        self.cache_bytes = self._gauge("cache_bytes", "What the result cache holds.")

    def series(self, model: str, version: str) -> Series:
        """Return what counts a version; whoever holds the object keeps it in the scrape.

        Both are "" for a model that this host does not have: labels are never a caller's text.

        The newest versions of each model stay when nobody holds them any more, so that the
        last requests of an unloaded version can still be read.
        """
        series = self._series.get((model, version))
        if series is None:
            series = self._series[model, version] = Series(model, version)
            self._kept.setdefault(model, deque(maxlen=VERSIONS_KEPT)).append(series)
        return series

    # --- what the core tells

    def watch(self, in_flight: Callable[[], int]) -> None:
        """Ask this at each scrape how many requests are being answered."""
        self._in_flight.set_function(in_flight)

    def shadowed(self, model: str, version: str, outcome: str) -> None:
        """Count a request that was repeated on a shadow."""
        self._shadows.labels(model, version, outcome).inc()

    def shadow_apart(self, model: str, version: str, largest: float) -> None:
        """Note the largest difference of a shadow's answers."""
        self._shadow_difference.labels(model, version).set(largest)

    # --- what is told of following

    def applied(self, model: str, serial: int) -> None:
        """Note the channel that was applied last."""
        self._serial.labels(model).set(serial)

    def bundle_refused(self, model: str) -> None:
        """Count a bundle that is not loaded."""
        self._refused.labels(model).inc()

    def alarm(self, model: str) -> None:
        """Count what someone may have tampered with."""
        self._alarms.labels(model).inc()

    def lease_dropped(self, model: str) -> None:
        """Count a candidate whose beat did not come."""
        self._lease_drops.labels(model).inc()

    def store_seen(self, reachable: bool) -> None:
        """Note whether the store could be read."""
        self._store_reachable.set(reachable)

    def serving(self, roles: Iterable[tuple[str, str, str]]) -> None:
        """Note every loaded version: model, version and role."""
        self._loaded.clear()
        for labels in roles:
            self._loaded.labels(*labels).set(1)

    # --- what is read

    def all_series(self) -> list[Series]:
        """Return every series that is still kept or held."""
        return list(self._series.values())

    def render(self) -> bytes:
        """Return all series in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"slipway_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"slipway_{name}", text, labels, registry=self.registry)


class _Live(Collector):
    """Makes the text of what the hot path counted."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Return all families."""
        yield from render(self._metrics.all_series())
        family = CounterMetricFamily(
            "slipway_records_dropped", "Log lines, captures and spans not kept.", labels=("kind",)
        )
        for kind, dropped in self._metrics.drops.items():
            family.add_metric((kind,), dropped())
        yield family
