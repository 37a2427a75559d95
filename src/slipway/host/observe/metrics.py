"""What the host counts, in its own Prometheus registry: nothing global, nothing on import."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final
from weakref import WeakValueDictionary

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from slipway.host.observe.series import SECONDS, Series, render

__all__ = ["CONTENT_TYPE", "SECONDS", "Metrics", "Series"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

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
        self.in_flight = self._gauge("requests_in_flight", "Requests being answered.")
        self.loaded = self._gauge(
            "loaded", "1 for each loaded version; role is stable, candidate or idle.",
            "model", "version", "role",
        )  # fmt: skip
        self.serial = self._gauge("channel_serial", "Serial of the channel applied last.", "model")
        self.refused = self._counter("bundles_refused", "Bundles not loaded.", "model")
        self.alarms = self._counter(
            "alarms", "Channels and beats that someone may have tampered with.", "model"
        )
        self.lease_drops = self._counter(
            "lease_drops", "Candidates dropped because no beat came.", "model"
        )
        self.shadows = self._counter(
            "shadow_requests",
            "Requests repeated on a shadow candidate; outcome is compared, failed or skipped.",
            "model", "version", "outcome",
        )  # fmt: skip
        self.shadow_difference = self._gauge(
            "shadow_difference_max",
            "Largest absolute difference of any output from the stable version's.",
            "model", "version",
        )  # fmt: skip
        self.store_reachable = self._gauge(
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
