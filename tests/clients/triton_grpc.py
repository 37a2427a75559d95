"""tritonclient over gRPC, its blocking, callback and asyncio faces."""

import asyncio
import queue
import time
from contextlib import suppress

import numpy as np
import tritonclient.grpc as client
import tritonclient.grpc.aio as aio
from checks import KEY, SITE, main
from triton_requests import Requests, denied, expect, expect_refused
from tritonclient.utils import InferenceServerException
from values import BF16, ROW, same

ASK = Requests(client)
make, row, give, want = ASK.make, ASK.row, ASK.give, ASK.want


def connect():
    return client.InferenceServerClient(SITE["grpc"])


def check_the_server_describes_itself():
    with connect() as c:
        assert c.is_server_live()
        assert c.is_server_ready()
        assert c.get_server_metadata().name == "slipway"
        metadata = c.get_server_metadata(as_json=True)
        assert {"binary_tensor_data", "model_configuration"} <= set(metadata["extensions"])


def check_a_model_describes_itself():
    with connect() as c:
        for version in ("", SITE["versions"]["mlp"]):
            assert c.is_model_ready("mlp", version)
            metadata = c.get_model_metadata("mlp", version)
            assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
                ("x", "FP32", [-1, 64])
            ]
            config = c.get_model_config("mlp", version).config
            assert (config.max_batch_size, list(config.input[0].dims)) == (64, [64])


def check_statistics_count():
    with connect() as c:
        (before,) = c.get_inference_statistics("mlp").model_stats
        c.infer("mlp", row(np.repeat(ROW, 3, 0)))
        (after,) = c.get_inference_statistics("mlp", SITE["versions"]["mlp"]).model_stats
        assert (after.name, after.version) == ("mlp", SITE["versions"]["mlp"])
        assert after.inference_count - before.inference_count == 3
        assert after.execution_count - before.execution_count == 1
        for step in ("success", "queue", "compute_infer"):
            was, now = (getattr(each.inference_stats, step) for each in (before, after))
            assert now.count - was.count == 1
            assert now.ns > was.ns
        with denied() as refusal:
            c.get_inference_statistics("nope")
        assert refusal.status == "StatusCode.NOT_FOUND"


def check_every_datatype():
    with connect() as c:
        expect(c.infer("types", give()))
        expect(c.infer("types", give(), outputs=want()))


def check_bf16():
    with connect() as c:
        assert same(c.infer("bf16", [make("x", "BF16", BF16)]).as_numpy("y"), BF16)


def check_only_the_outputs_that_are_asked_for():
    with connect() as c:
        said = c.infer("types", give(), outputs=want()[8:10], request_id="a-1").get_response()
        assert [output.name for output in said.outputs] == ["out_INT64", "out_FP16"]
        assert (said.id, said.model_name) == ("a-1", "types")
        assert said.model_version == SITE["versions"]["types"]


def check_priority_timeout_and_parameters():
    with connect() as c:
        ASK.expect_parameters(c, client_timeout=60)


def check_compressed_requests_and_answers():
    rows = np.repeat(ROW, 50, 0)
    with connect() as c:
        plain = c.infer("mlp", row(rows)).as_numpy("y")
        for algorithm in ("gzip", "deflate"):
            answer = c.infer("mlp", row(rows), compression_algorithm=algorithm)
            assert np.array_equal(answer.as_numpy("y"), plain)
            expect(c.infer("types", give(), compression_algorithm=algorithm))


def check_refusals_carry_a_status():
    with connect() as c:
        ASK.expect_refusals(c, "StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT")


def check_what_the_host_does_not_do_is_refused():
    with connect() as c:
        calls = (
            c.get_model_repository_index,
            lambda: c.load_model("mlp"),
            lambda: c.unload_model("mlp"),
            c.get_system_shared_memory_status,
            c.get_cuda_shared_memory_status,
            c.get_trace_settings,
            c.get_log_settings,
        )
        expect_refused(calls, "StatusCode.UNIMPLEMENTED")


def check_a_stream_is_refused():
    with connect() as c:
        heard = queue.Queue()
        c.start_stream(lambda result, error: heard.put(error))
        with suppress(InferenceServerException):  # the refusal can come before the request leaves
            c.async_stream_infer("mlp", row())
        error = heard.get(timeout=60)
        c.stop_stream()
        assert isinstance(error, InferenceServerException)


def check_calls_with_a_callback():
    with connect() as c:
        heard = queue.Queue()
        for n in range(200):
            c.async_infer(
                "mlp", row(), lambda result, error: heard.put((result, error)), request_id=str(n)
            )
        found = [heard.get(timeout=60) for _ in range(200)]
        assert [error for _, error in found if error] == []
        said = {result.get_response().id for result, _ in found}
        assert said == {str(n) for n in range(200)}
        c.async_infer("nope", row(), lambda result, error: heard.put((result, error)))
        _, error = heard.get(timeout=60)
        assert error.status() == "StatusCode.NOT_FOUND"


def check_keys():
    with client.InferenceServerClient(SITE["keyed_grpc"]) as c:
        calls = (lambda: c.infer("mlp", row()), lambda: c.get_model_metadata("mlp"))
        expect_refused(calls, "StatusCode.UNAUTHENTICATED")
        ASK.expect_row(c, headers=KEY)
        assert c.get_model_metadata("mlp", headers=KEY).name == "mlp"
        assert c.is_server_live(headers=KEY)


def check_tls():
    with client.InferenceServerClient(
        SITE["tls_grpc"], ssl=True, root_certificates=SITE["authority"]
    ) as c:
        assert c.is_server_ready()
        ASK.expect_row(c)


def check_keepalive_pings_are_answered():
    options = client.KeepAliveOptions(
        keepalive_time_ms=200, keepalive_timeout_ms=1000, keepalive_permit_without_calls=True
    )
    with client.InferenceServerClient(SITE["grpc"], keepalive_options=options) as c:
        for _ in range(4):
            ASK.expect_row(c)
            time.sleep(0.5)


async def check_aio():
    async with aio.InferenceServerClient(SITE["grpc"]) as c:
        assert await c.is_server_live()
        assert await c.is_server_ready()
        assert await c.is_model_ready("types")
        assert (await c.get_server_metadata()).name == "slipway"
        assert (await c.get_model_metadata("bf16")).inputs[0].datatype == "BF16"
        assert (await c.get_model_config("mlp")).config.max_batch_size == 64
        (found,) = (await c.get_inference_statistics("mlp")).model_stats
        assert found.version == SITE["versions"]["mlp"]
        for algorithm in (None, "gzip", "deflate"):
            expect(await c.infer("types", give(), compression_algorithm=algorithm))
        with denied() as refusal:
            await c.infer("nope", row())
        assert refusal.status == "StatusCode.NOT_FOUND"
        asked = [c.infer("mlp", row(), request_id=str(n)) for n in range(300)]
        answers = await asyncio.gather(*asked)
        assert [a.get_response().id for a in answers] == [str(n) for n in range(300)]


async def check_aio_tls_and_keys():
    async with aio.InferenceServerClient(
        SITE["tls_grpc"], ssl=True, root_certificates=SITE["authority"]
    ) as c:
        assert (await c.infer("mlp", row())).as_numpy("y").shape == (1, 10)
    async with aio.InferenceServerClient(SITE["keyed_grpc"]) as c:
        assert (await c.infer("mlp", row(), headers=KEY)).as_numpy("y").shape == (1, 10)


if __name__ == "__main__":
    main(dict(globals()))
