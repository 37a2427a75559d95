"""tritonclient over gRPC, its blocking, callback and asyncio faces."""

import asyncio
import queue
from contextlib import suppress

import numpy as np
import tritonclient.grpc as client
import tritonclient.grpc.aio as aio
from checks import SITE, Said, main, refused
from tritonclient.utils import InferenceServerException
from values import BF16, ROW, same, tensors

KEY = {"authorization": f"Bearer {SITE.get('secret')}"}


def connect():
    return client.InferenceServerClient(SITE["grpc"])


def say(error):
    return Said(error.status(), error.message())


def make(name, datatype, values):
    return client.InferInput(name, list(values.shape), datatype).set_data_from_numpy(values)


def give():
    return [make(f"in_{name}", name, values) for name, values in tensors().items()]


def want():
    return [client.InferRequestedOutput(f"out_{name}") for name in tensors()]


def row(values=ROW):
    return [make("x", "FP32", values)]


def expect(answer):
    for name, values in tensors().items():
        found = answer.as_numpy(f"out_{name}")
        assert same(found, values), (name, found, values)


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


def check_statistics_are_counted_where_they_are_offered():
    with connect() as c:
        if "statistics" in c.get_server_metadata().extensions:
            c.infer("mlp", row())
            (found,) = c.get_inference_statistics("mlp").model_stats
            assert found.name == "mlp"
            assert found.version == SITE["versions"]["mlp"]
            assert found.inference_stats.success.count >= 1
        else:
            with refused(InferenceServerException, say) as refusal:
                c.get_inference_statistics("mlp")
            assert refusal.status == "StatusCode.UNIMPLEMENTED"


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
        more = {"priority": 1, "timeout": 10**7, "parameters": {"a": "b", "c": 3, "d": True}}
        answer = c.infer("mlp", row(), client_timeout=10, **more)
        assert answer.as_numpy("y").shape == (1, 10)


def check_compressed_requests_are_refused_in_words():
    with connect() as c:
        plain = c.infer("mlp", row()).as_numpy("y")
        for algorithm in ("gzip", "deflate"):
            with refused(InferenceServerException, say) as refusal:
                c.infer("mlp", row(), compression_algorithm=algorithm)
            assert refusal.status == "StatusCode.UNIMPLEMENTED"
            assert "compress" in refusal.message
        assert np.array_equal(c.infer("mlp", row()).as_numpy("y"), plain)


def check_refusals_carry_a_status():
    with connect() as c:
        wrong = {
            "NOT_FOUND": [("nope", row(), {}), ("mlp", row(), {"model_version": "f" * 64})],
            "INVALID_ARGUMENT": [
                ("mlp", row(ROW[:, :63]), {}),
                ("mlp", [make("x", "FP64", ROW.astype(np.float64))], {}),
                ("mlp", [make("z", "FP32", ROW)], {}),
                ("types", give()[:5], {}),
                ("mlp", row(), {"outputs": [client.InferRequestedOutput("nope")]}),
                ("mlp", row(), {"outputs": [client.InferRequestedOutput("y", class_count=3)]}),
                ("mlp", row(np.full((1, 64), np.nan, np.float32)), {}),
                ("mlp", row(np.repeat(ROW, 65, 0)), {}),
                ("mlp", [client.InferInput("x", [1, 64], "FP32").set_shared_memory("r", 256)], {}),
            ],
        }
        for status, calls in wrong.items():
            for model, inputs, more in calls:
                with refused(InferenceServerException, say) as refusal:
                    c.infer(model, inputs, **more)
                assert refusal.status == f"StatusCode.{status}", (refusal.said, model, more)
                assert refusal.message
        assert c.infer("mlp", row()).as_numpy("y").shape == (1, 10)


def check_what_the_host_does_not_do_is_refused():
    with connect() as c:
        for act in (
            c.get_model_repository_index,
            lambda: c.load_model("mlp"),
            lambda: c.unload_model("mlp"),
            c.get_system_shared_memory_status,
            c.get_cuda_shared_memory_status,
            c.get_trace_settings,
            c.get_log_settings,
        ):
            with refused(InferenceServerException, say) as refusal:
                act()
            assert refusal.status == "StatusCode.UNIMPLEMENTED", refusal.said


def check_a_stream_is_refused():
    with connect() as c:
        heard = queue.Queue()
        c.start_stream(lambda result, error: heard.put(error))
        with suppress(InferenceServerException):  # the refusal can come before the request leaves
            c.async_stream_infer("mlp", row())
        error = heard.get(timeout=10)
        c.stop_stream()
        assert isinstance(error, InferenceServerException)


def check_calls_with_a_callback():
    with connect() as c:
        heard = queue.Queue()
        for n in range(200):
            c.async_infer(
                "mlp", row(), lambda result, error: heard.put((result, error)), request_id=str(n)
            )
        found = [heard.get(timeout=10) for _ in range(200)]
        assert [error for _, error in found if error] == []
        said = {result.get_response().id for result, _ in found}
        assert said == {str(n) for n in range(200)}
        c.async_infer("nope", row(), lambda result, error: heard.put((result, error)))
        _, error = heard.get(timeout=10)
        assert error.status() == "StatusCode.NOT_FOUND"


def check_keys():
    with client.InferenceServerClient(SITE["keyed_grpc"]) as c:
        for act in (lambda: c.infer("mlp", row()), lambda: c.get_model_metadata("mlp")):
            with refused(InferenceServerException, say) as refusal:
                act()
            assert refusal.status == "StatusCode.UNAUTHENTICATED", refusal.said
        assert c.infer("mlp", row(), headers=KEY).as_numpy("y").shape == (1, 10)
        assert c.get_model_metadata("mlp", headers=KEY).name == "mlp"
        assert c.is_server_live(headers=KEY)


def check_tls():
    with client.InferenceServerClient(
        SITE["tls_grpc"], ssl=True, root_certificates=SITE["authority"]
    ) as c:
        assert c.is_server_ready()
        assert c.infer("mlp", row()).as_numpy("y").shape == (1, 10)


def check_keepalive_pings_are_answered():
    options = client.KeepAliveOptions(
        keepalive_time_ms=200, keepalive_timeout_ms=1000, keepalive_permit_without_calls=True
    )
    with client.InferenceServerClient(SITE["grpc"], keepalive_options=options) as c:
        import time

        for _ in range(4):
            assert c.infer("mlp", row()).as_numpy("y").shape == (1, 10)
            time.sleep(0.5)


async def check_aio():
    async with aio.InferenceServerClient(SITE["grpc"]) as c:
        assert await c.is_server_live()
        assert await c.is_server_ready()
        assert await c.is_model_ready("types")
        assert (await c.get_server_metadata()).name == "slipway"
        assert (await c.get_model_metadata("bf16")).inputs[0].datatype == "BF16"
        assert (await c.get_model_config("mlp")).config.max_batch_size == 64
        expect(await c.infer("types", give(), request_id="1"))
        with refused(InferenceServerException, say) as refusal:
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
