"""Hosts in memory: they follow the real store at once and answer with the real model."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from slipway.bundle.datatypes import DTYPES, as_numbers
from slipway.bundle.rows import from_bytes
from slipway.bundle.session import Session, open_session
from slipway.bundle.signing import TrustedKeys
from slipway.bundle.verify import verify_bundle
from slipway.errors import ChannelRefused
from slipway.fleet.client import HostAnswer, HostStatus, ModelStatus
from slipway.fleet.inventory import Fleet, Host
from slipway.store.bundles import download_bundle
from slipway.store.channel import Channel, models, read_channel
from slipway.store.objects import Store
from slipway.store.split import takes_candidate
from tests.bundles import CPU


@dataclass
class FakeHosts:
    """All hosts of a fleet as `HostClient` sees them; the fields are what goes wrong there."""

    fleet: Fleet
    store: Store
    trusted: TrustedKeys
    down: set[str] = field(default_factory=set)
    refuses: dict[str, str] = field(default_factory=dict)
    """Version: reason."""
    untried: set[str] = field(default_factory=set)
    """Of the versions refused: those that the hosts could not try."""
    busy: set[int] = field(default_factory=set)
    """Requests, by number, that are not served."""
    deaf: set[str] = field(default_factory=set)
    """Hosts that take up no channel."""
    broken: dict[str, str] = field(default_factory=dict)
    """Version: the error that all its answers are."""
    slow_ms: dict[str, float] = field(default_factory=dict)
    skewed: dict[str, float] = field(default_factory=dict)
    """Version: what is added to its answers on the wire."""
    before_answer: Callable[[int], None] = lambda number: None
    """Called with the number of each request before it is answered."""
    seen_body: Callable[[str, bytes], None] = lambda version, body: None
    """Called with each request and the version that answers it."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Host, version that answered, version asked for by name."""
    _sessions: dict[str, Session] = field(default_factory=dict)
    _applied: dict[str, Channel | None] = field(default_factory=dict)
    """What they go on with while the newest channel is damaged."""
    _channels: dict[tuple[str, str], Channel | None] = field(default_factory=dict)

    def status(self, host: Host) -> HostStatus | None:
        if host.name in self.down:
            return None
        found = {
            m: self._model(c) for m in models(self.store, self.fleet.name) if (c := self._read(m))
        }
        if host.name in self.deaf:
            found = {}
        ready = bool(found) and all(model.stable for model in found.values())
        return HostStatus(name=host.name, fleet=self.fleet.name, ready=ready, models=found)

    def infer(
        self,
        host: Host,
        model: str,
        body: bytes,
        *,
        key: str,
        version: str | None,
        json_bytes: int | None = None,
    ) -> HostAnswer:
        self.before_answer(len(self.asked))
        channel = self._read(model)
        if host.name in self.down or channel is None:
            return HostAnswer(
                1.0,
                error="ConnectError: no host" if channel else "HTTP 404: no model",
                unserved=channel is not None,
            )
        if len(self.asked) in self.busy:
            self.asked.append((host.name, "", version))
            return HostAnswer(1.0, error="ReadTimeout: timed out", unserved=True)
        chosen = self._route(channel, key, version)
        self.asked.append((host.name, chosen or "", version))
        if chosen is None:
            return HostAnswer(1.0, error="HTTP 404: version is not loaded")
        self.seen_body(chosen, body)
        latency_ms = self.slow_ms.get(chosen, 1.0)
        if chosen in self.broken:
            return HostAnswer(latency_ms, error=self.broken[chosen])
        session = self._session(model, chosen)
        answers = session.run(_tensors(body, json_bytes, session.inputs))
        outputs = {
            name: as_numbers(values, session.outputs[name]) for name, values in answers.items()
        }
        skew = self.skewed.get(chosen, 0.0)
        skewed = {n: v + skew if v.dtype.kind == "f" and skew else v for n, v in outputs.items()}
        return HostAnswer(latency_ms, chosen, skewed)

    def _read(self, model: str) -> Channel | None:
        """Return the channel; a serial is read once, as it never changes."""
        serials = self.store.names(f"channels/{self.fleet.name}/{model}")
        newest = (model, serials[-1] if serials else "")
        if newest not in self._channels:
            try:
                signed = read_channel(self.store, self.fleet.name, model, self.trusted)
            except ChannelRefused:
                return self._applied.get(model)
            self._channels[newest] = signed.channel if signed else None
        self._applied[model] = self._channels[newest]
        return self._channels[newest]

    def _model(self, channel: Channel) -> ModelStatus:
        stable, candidate = channel.stable, channel.candidate
        wanted = [v for v in (stable, candidate and candidate.version) if v]
        loaded = [v for v in wanted if v not in self.refuses]
        answers = candidate is not None and candidate.version in loaded
        return ModelStatus(
            stable=stable if stable in loaded else None,
            candidate=candidate.version if candidate and answers else None,
            percent=candidate.percent if candidate and answers else 0,
            serial=channel.serial,
            reason=channel.reason,
            refused={v: self.refuses[v] for v in wanted if v in self.refuses},
            untried=[v for v in wanted if v in self.untried],
        )

    def _route(self, channel: Channel, key: str, version: str | None) -> str | None:
        told = self._model(channel)
        if version is not None:
            loaded = [v for v in (told.stable, told.candidate) if v]
            return next((v for v in loaded if v.startswith(version)), None)
        if told.candidate and takes_candidate(told.candidate, key, told.percent or 0):
            return told.candidate
        return told.stable

    def _session(self, model: str, version: str) -> Session:
        if version not in self._sessions:
            with TemporaryDirectory() as folder:
                into = download_bundle(self.store, model, version, Path(folder) / version)
                bundle = verify_bundle(into, self.trusted)
            self._sessions[version] = open_session(bundle.model, CPU, threads=1)
        return self._sessions[version]


def _tensors(
    body: bytes, json_bytes: int | None, datatypes: dict[str, str]
) -> dict[str, np.ndarray]:
    """Read a request, JSON or binary, as a host does whose contract knows missing values."""
    position = len(body) if json_bytes is None else json_bytes
    tensors = {}
    for item in json.loads(body[:position])["inputs"]:
        name, shape = item["name"], item["shape"]
        datatype = datatypes[name]
        if "data" in item:
            tensors[name] = _values(datatype, item["data"]).reshape(shape)
            continue
        end = position + item["parameters"]["binary_data_size"]
        tensors[name] = from_bytes(body[position:end], shape, datatype)
        position = end
    return tensors


def _values(datatype: str, data: list) -> np.ndarray:
    if datatype == "BYTES":
        return np.array(["" if value is None else value for value in data], dtype=object)
    return np.array([np.nan if v is None else v for v in data], dtype=DTYPES[datatype])


@dataclass
class FakeTime:
    """A clock that only moves when somebody sleeps."""

    now_s: float = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def time_ns(self) -> int:
        return int((1_800_000_000 + self.now_s) * 1e9)
