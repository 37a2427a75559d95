"""What is counted appears in the scrape, bounded and cheap."""

import gc

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slipway.host.engine.job import Batch, Job
from slipway.host.observe.callers import OTHER, Callers
from slipway.host.observe.metrics import VERSIONS_KEPT, Metrics
from slipway.host.observe.series import SECONDS, Distribution
from slipway.host.request.refusal import RequestRefused
from tests.host_calls import make_batch, make_job
from tests.support.pace import cpu_s


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_an_answered_request_is_counted_once_as_ok_with_its_time() -> None:
    metrics = Metrics()
    metrics.series("m", "v").answered(0.0015)
    assert value(metrics, "slipway_requests_total", model="m", version="v", code="ok") == 1
    assert value(metrics, "slipway_request_seconds_count", model="m", version="v") == 1
    assert value(metrics, "slipway_request_seconds_sum", model="m", version="v") == 0.0015


def test_a_bound_belongs_to_its_own_bucket_as_prometheus_says() -> None:
    times = Distribution(SECONDS)
    for each in (0.001, 0.00100001, 99.0):
        times.add(each)
    buckets = dict(times.buckets())
    assert [buckets[b] for b in ("0.0005", "0.001", "0.002", "30.0", "+Inf")] == [0, 1, 2, 2, 3]


def test_refusals_are_counted_by_code() -> None:
    metrics = Metrics()
    for code in ("queue_full", "queue_full", "bad_request"):
        metrics.series("m", "v").count(code)
    labels = {"model": "m", "version": "v"}
    assert value(metrics, "slipway_requests_total", code="queue_full", **labels) == 2
    assert value(metrics, "slipway_requests_total", code="bad_request", **labels) == 1
    assert value(metrics, "slipway_requests_total", code="ok", **labels) is None


def test_a_batch_counts_its_size_its_run_and_the_wait_of_each_request() -> None:
    metrics = Metrics()
    jobs = [Job({}, rows, print, arrived=10.0) for rows in (1, 3)]
    batch = Batch(1, 4, 2, started=10.03, ended=10.08, copy_s=0.25)
    series = metrics.series("m", "v")
    series.batch(batch, jobs)
    series.batch(batch, jobs, RequestRefused("out_of_memory", "no"))
    series.batch(batch, jobs, ValueError("secret"))
    labels = {"model": "m", "version": "v"}
    assert value(metrics, "slipway_queue_seconds_count", **labels) == 6
    assert value(metrics, "slipway_queue_seconds_sum", **labels) == pytest.approx(0.18)
    assert value(metrics, "slipway_queue_seconds_bucket", le="0.02", **labels) == 0
    assert value(metrics, "slipway_queue_seconds_bucket", le="0.05", **labels) == 6
    assert value(metrics, "slipway_run_seconds_sum", **labels) == pytest.approx(0.15)
    assert value(metrics, "slipway_batch_rows_sum", **labels) == 12
    assert value(metrics, "slipway_batch_requests_sum", **labels) == 6
    assert value(metrics, "slipway_copy_seconds_total", **labels) == 0.75
    failed = "slipway_batches_failed_total"
    assert value(metrics, failed, error="out_of_memory", **labels) == 1
    assert value(metrics, failed, error="ValueError", **labels) == 1
    assert b"secret" not in metrics.render()


def test_what_the_result_cache_had_is_counted() -> None:
    metrics = Metrics()
    series = metrics.series("m", "v")
    assert (
        value(metrics, "slipway_cache_requests_total", model="m", version="v", outcome="hit")
        is None
    )
    series.cache_hits += 3
    series.cache_misses += 1
    labels = {"model": "m", "version": "v"}
    assert value(metrics, "slipway_cache_requests_total", outcome="hit", **labels) == 3
    assert value(metrics, "slipway_cache_requests_total", outcome="coalesced", **labels) == 0


def test_the_oldest_of_many_unloaded_versions_leave_the_scrape() -> None:
    metrics = Metrics()
    for i in range(VERSIONS_KEPT + 5):
        metrics.series("m", f"v{i:03}").count("ok")
    gc.collect()
    kept = sorted(one.labels[1] for one in metrics.all_series())
    assert kept == [f"v{i:03}" for i in range(5, VERSIONS_KEPT + 5)]


def test_a_version_that_is_held_stays_however_old_it_is() -> None:
    metrics = Metrics()
    held = metrics.series("m", "stable")
    for i in range(VERSIONS_KEPT * 2):
        metrics.series("m", f"v{i}")
    held.answered(0.1)
    assert metrics.series("m", "stable") is held
    assert value(metrics, "slipway_requests_total", model="m", version="stable", code="ok") == 1


def test_the_scrape_is_what_prometheus_parses_and_names_are_prefixed() -> None:
    metrics = Metrics()
    metrics.series("m", 'a"\n\\').answered(1)
    metrics.drops["log"] = lambda: 7
    metrics.connections.labels("public").set(2)
    families = {f.name: f for f in text_string_to_metric_families(metrics.render().decode())}
    assert all(name.startswith("slipway_") for name in families)
    assert families["slipway_requests"].samples[0].labels["version"] == 'a"\n\\'
    assert value(metrics, "slipway_records_dropped_total", kind="log") == 7
    assert len(families) == len(set(families))


def test_an_answered_request_costs_less_than_half_a_microsecond() -> None:
    series = Metrics().series("m", "v")
    jobs = [Job({}, 1, print) for _ in range(64)]
    batch = Batch(1, 64, 64, 0.001, 0.002)

    def answer_all() -> None:
        for _ in range(64 * 50):
            series.answered(0.0013)
        for _ in range(50):
            series.batch(batch, jobs)

    best = cpu_s(answer_all, rounds=9) / (64 * 50)
    print(f"answered and its share of batch: {best * 1e6:.2f} µs")  # noqa: T201
    assert best < 1.5e-6  # 0.3 on an idle machine; this one may be busy


def test_a_caller_pays_its_share_of_a_batch_by_rows() -> None:
    metrics, callers = Metrics(), Callers()
    metrics.registry.register(callers)
    jobs = [make_job(rows=1), make_job(rows=3)]
    make_batch(jobs, run_s=0.008)
    callers.count("ann", jobs[0])
    callers.count("bob", jobs[1])
    callers.count("bob", None)
    run = "slipway_caller_run_seconds_total"
    assert value(metrics, run, caller="ann") == pytest.approx(0.002)
    assert value(metrics, run, caller="bob") == pytest.approx(0.006)
    assert value(metrics, "slipway_caller_rows_total", caller="bob") == 3
    assert value(metrics, "slipway_caller_requests_total", caller="bob") == 2


def test_callers_beyond_the_limit_are_counted_together() -> None:
    metrics, callers = Metrics(), Callers(callers_max=2)
    metrics.registry.register(callers)
    for caller in ("a", "b", "c", "d", "a"):
        callers.count(caller, None)
    counted = {
        name: value(metrics, "slipway_caller_requests_total", caller=name)
        for name in ("a", "b", "c", OTHER)
    }
    assert counted == {"a": 2, "b": 1, "c": None, OTHER: 2}
