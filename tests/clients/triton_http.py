"""tritonclient over HTTP: geventhttpclient underneath, and aiohttp for `aio`."""

import ssl
import urllib.request

import gevent.ssl
import numpy as np
import tritonclient.http as client
import tritonclient.http.aio as aio
from checks import KEY, SITE, main
from triton_requests import Requests, denied, expect, expect_refused
from values import BF16, ROW, same

ASK = Requests(client)
make, row, give, want = ASK.make, ASK.row, ASK.give, ASK.want
JSON = {"binary_data": False}


def connect(concurrency=1):
    return client.InferenceServerClient(SITE["http"], concurrency=concurrency)


def check_the_server_describes_itself():
    with connect() as c:
        assert c.is_server_live()
        assert c.is_server_ready()
        metadata = c.get_server_metadata()
        assert metadata["name"] == "slipway"
        assert {"binary_tensor_data", "model_configuration"} <= set(metadata["extensions"])


def check_a_model_describes_itself():
    with connect() as c:
        for version in ("", SITE["versions"]["mlp"]):
            assert c.is_model_ready("mlp", version)
            metadata = c.get_model_metadata("mlp", version)
            assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}]
            assert metadata["versions"] == [SITE["versions"]["mlp"]]
            config = c.get_model_config("mlp", version)
            assert config["max_batch_size"] == 64
            assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [64]}]
        assert not c.is_model_ready("nope")


def check_statistics_count():
    with connect() as c:
        before = c.get_inference_statistics("mlp")["model_stats"][0]
        c.infer("mlp", row(np.repeat(ROW, 3, 0)))
        after = c.get_inference_statistics("mlp")["model_stats"][0]
        assert after["inference_count"] - before["inference_count"] == 3
        spent = [each["inference_stats"]["success"]["count"] for each in (before, after)]
        assert spent[1] - spent[0] == 1


def check_every_datatype_as_bytes():
    with connect() as c:
        expect(c.infer("types", give()))
        expect(c.infer("types", give(), outputs=want()))


def check_every_datatype_as_json():
    with connect() as c:
        expect(c.infer("types", give(**JSON), outputs=want(**JSON)))


def check_bytes_in_and_json_out_and_the_reverse():
    with connect() as c:
        expect(c.infer("types", give(), outputs=want(**JSON)))
        expect(c.infer("types", give(**JSON), outputs=want()))
        turns = [n % 2 == 0 for n in range(len(want()))]
        mixed = [give(binary_data=turn)[n] for n, turn in enumerate(turns)]
        wanted = [want(binary_data=not turn)[n] for n, turn in enumerate(turns)]
        expect(c.infer("types", mixed, outputs=wanted))


def check_bf16():
    with connect() as c:
        answer = c.infer("bf16", [make("x", "BF16", BF16)])
        assert same(answer.as_numpy("y"), BF16)


def check_no_rows():
    with connect() as c:
        with denied() as refusal:
            c.infer("mlp", row(np.empty((0, 64), np.float32)))
        assert refusal.status == "400", refusal.said


def check_only_the_outputs_that_are_asked_for():
    with connect() as c:
        answer = c.infer("types", give(), outputs=want()[8:10], request_id="a-1")
        said = answer.get_response()
        assert [output["name"] for output in said["outputs"]] == ["out_INT64", "out_FP16"]
        assert (said["id"], said["model_name"]) == ("a-1", "types")
        assert said["model_version"] == SITE["versions"]["types"]


def check_priority_timeout_and_parameters():
    with connect() as c:
        ASK.expect_parameters(c)


def check_compressed_requests_and_answers():
    with connect() as c:
        plain = c.infer("mlp", row(**JSON)).as_numpy("y")
        for sent in ("gzip", "deflate", None):
            for wanted in ("gzip", "deflate", None):
                for binary in (True, False):
                    answer = c.infer(
                        "mlp",
                        row(binary_data=binary),
                        request_compression_algorithm=sent,
                        response_compression_algorithm=wanted,
                    )
                    assert np.array_equal(answer.as_numpy("y"), plain), (sent, wanted, binary)


def check_refusals_carry_a_status():
    with connect() as c:
        ASK.expect_refusals(c, "404", "400")


def check_what_the_host_does_not_do_is_refused():
    with connect() as c:
        calls = (
            c.get_model_repository_index,
            lambda: c.load_model("mlp"),
            lambda: c.unload_model("mlp"),
            c.get_system_shared_memory_status,
            c.get_trace_settings,
            c.get_log_settings,
        )
        expect_refused(calls, "404", "405")


def check_asynchronous_calls():
    with connect(8) as c:
        rows = [np.roll(ROW, n) for n in range(100)]
        calls = [
            c.async_infer("mlp", row(values), request_id=str(n)) for n, values in enumerate(rows)
        ]
        answers = [call.get_result() for call in calls]
        assert [a.get_response()["id"] for a in answers] == [str(n) for n in range(100)]
        alone = [c.infer("mlp", row(values)).as_numpy("y") for values in rows]
        for answer, solo in zip(answers, alone, strict=True):
            np.testing.assert_allclose(answer.as_numpy("y"), solo, rtol=1e-5, atol=1e-6)
        with denied() as refusal:
            c.async_infer("nope", row()).get_result()
        assert refusal.status == "404"


def check_a_body_that_is_made_and_read_by_hand():
    body, json_size = client.InferenceServerClient.generate_request_body(row())
    headers = {"Inference-Header-Content-Length": str(json_size)}
    headers["Content-Type"] = "application/octet-stream"
    url = f"http://{SITE['http']}/v2/models/mlp/infer"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as response:
        size = int(response.headers["Inference-Header-Content-Length"])
        answer = client.InferenceServerClient.parse_response_body(
            response.read(), header_length=size
        )
    assert answer.as_numpy("y").shape == (1, 10)


def check_keys():
    with client.InferenceServerClient(SITE["keyed_http"]) as c:
        assert c.is_server_live()
        assert c.is_server_ready()
        for wrong in (None, {"Authorization": "Bearer slw_" + "x" * 43}):
            calls = (
                lambda h=wrong: c.infer("mlp", row(), headers=h),
                lambda h=wrong: c.get_model_metadata("mlp", headers=h),
            )
            expect_refused(calls, "401")
        ASK.expect_row(c, headers=KEY)
        assert c.get_model_metadata("mlp", headers=KEY)["name"] == "mlp"


def check_tls():
    def trust():
        return gevent.ssl.create_default_context(cafile=SITE["authority"])

    with client.InferenceServerClient(SITE["tls_http"], ssl=True, ssl_context_factory=trust) as c:
        assert c.is_server_ready()
        for _ in range(5):
            ASK.expect_row(c)


async def check_aio():
    async with aio.InferenceServerClient(SITE["http"]) as c:
        assert await c.is_server_live()
        assert await c.is_server_ready()
        assert await c.is_model_ready("types")
        assert (await c.get_server_metadata())["name"] == "slipway"
        assert (await c.get_model_metadata("bf16"))["inputs"][0]["datatype"] == "BF16"
        assert (await c.get_model_config("mlp"))["max_batch_size"] == 64
        assert (await c.get_inference_statistics("mlp"))["model_stats"]
        expect(await c.infer("types", give(), request_id="1"))
        expect(await c.infer("types", give(**JSON), outputs=want(**JSON)))
        for sent in ("gzip", "deflate"):
            for wanted in ("gzip", "deflate", None):
                algorithms = {
                    "request_compression_algorithm": sent,
                    "response_compression_algorithm": wanted,
                }
                expect(await c.infer("types", give(), **algorithms))
        with denied() as refusal:
            await c.infer("nope", row())
        assert refusal.status == "404"


async def check_aio_many_at_once():
    import asyncio

    async with aio.InferenceServerClient(SITE["http"], conn_limit=20) as c:
        asked = [c.infer("mlp", row(), request_id=str(n)) for n in range(300)]
        answers = await asyncio.gather(*asked)
        assert [a.get_response()["id"] for a in answers] == [str(n) for n in range(300)]


async def check_aio_tls_and_keys():
    context = ssl.create_default_context(cafile=SITE["authority"])
    async with aio.InferenceServerClient(SITE["tls_http"], ssl=True, ssl_context=context) as c:
        assert (await c.infer("mlp", row())).as_numpy("y").shape == (1, 10)
    async with aio.InferenceServerClient(SITE["keyed_http"]) as c:
        assert (await c.infer("mlp", row(), headers=KEY)).as_numpy("y").shape == (1, 10)
        with denied() as refusal:
            await c.infer("mlp", row())
        assert refusal.status == "401"


if __name__ == "__main__":
    main(dict(globals()))
