"""KServe's inference client, REST over httpx and gRPC over grpc.aio."""

import asyncio

import grpc
import httpx
import numpy as np
from checks import KEY, SITE, Said, main, refused
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)
from kserve.protocol.infer_type import RequestedOutput
from values import ROW, same, tensors

HTTP, GRPC = f"http://{SITE.get('http')}", SITE.get("grpc", "")


def rest(**config):
    return InferenceRESTClient(RESTConfig(protocol="v2", retries=0, **config))


def make(name, datatype, values, binary):
    made = InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def row(binary=True, model="mlp", **more):
    return InferRequest(model, [make("x", "FP32", ROW, binary)], **more)


def every(binary):
    """Ask with every datatype; KServe's client sends no FP16 as JSON."""
    inputs = [
        make(f"in_{name}", name, values, binary or name == "FP16")
        for name, values in tensors().items()
    ]
    return InferRequest("types", inputs, request_id="a-1")


def expect(answer):
    assert (answer.id, answer.model_name) == ("a-1", "types")
    found = {output.name: output.as_numpy() for output in answer.outputs}
    for name, values in tensors().items():
        assert same(found[f"out_{name}"], values), (name, found[f"out_{name}"], values)


def say_rest(error):
    return Said(str(error.response.status_code), str(error))


def say_grpc(error):
    return Said(error.code().name, error.details())


async def check_rest_says_what_is_ready():
    async with rest() as c:
        assert await c.is_server_live(HTTP) is True
        assert await c.is_server_ready(HTTP) is True
        assert await c.is_model_ready(HTTP, "mlp") is True
        assert await c.is_model_ready(HTTP, "nope") is False


async def check_rest_infers_in_json_and_in_bytes():
    async with rest() as c:
        answers = [await c.infer(HTTP, row(binary), "mlp") for binary in (False, True)]
        for answer in answers:
            assert answer.outputs[0].shape == [1, 10]
            assert answer.model_name == "mlp"
        first, second = (answer.outputs[0].as_numpy() for answer in answers)
        assert np.array_equal(first, second)
        wanted = [RequestedOutput("y", parameters={"binary_data": True})]
        answer = await c.infer(HTTP, row(request_outputs=wanted), "mlp")
        assert np.array_equal(answer.outputs[0].as_numpy(), first)


async def check_rest_carries_every_datatype():
    async with rest() as c:
        for binary in (True, False):
            expect(await c.infer(HTTP, every(binary), "types"))


async def check_rest_takes_a_plain_document():
    async with rest() as c:
        document = {
            "inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": ROW.tolist()}]
        }
        headers = {}
        answer = await c.infer(HTTP, document, "mlp", response_headers=headers)
        assert answer.outputs[0].shape == [1, 10]
        assert headers["slipway-version"] == SITE["versions"]["mlp"]


async def check_rest_refusals_carry_a_status():
    async with rest() as c:
        for status, model, request in (
            ("404", "nope", row(model="nope")),
            ("400", "types", row(model="types")),
            ("400", "mlp", InferRequest("mlp", [make("x", "FP32", ROW[:, :9], True)])),
        ):
            with refused(httpx.HTTPStatusError, say_rest) as refusal:
                await c.infer(HTTP, request, model)
            assert refusal.status == status, refusal.said


async def check_rest_tls_and_keys():
    async with rest(verify=SITE["authority"]) as c:
        answer = await c.infer(f"https://{SITE['tls_http']}", row(), "mlp")
        assert answer.outputs[0].shape == [1, 10]
    async with rest() as c:
        url = f"http://{SITE['keyed_http']}"
        assert (await c.infer(url, row(), "mlp", headers=dict(KEY))).outputs[0].shape == [1, 10]
        with refused(httpx.HTTPStatusError, say_rest) as refusal:
            await c.infer(url, row(), "mlp")
        assert refusal.status == "401"


async def check_rest_many_at_once():
    async with rest() as c:
        asked = [c.infer(HTTP, row(n % 2 == 0, request_id=str(n)), "mlp") for n in range(200)]
        assert [a.id for a in await asyncio.gather(*asked)] == [str(n) for n in range(200)]


async def check_grpc_says_what_is_ready():
    async with InferenceGRPCClient(GRPC) as c:
        assert await c.is_server_live() is True
        assert await c.is_server_ready() is True
        assert await c.is_model_ready("mlp") is True


async def check_grpc_infers():
    async with InferenceGRPCClient(GRPC) as c:
        answers = [await c.infer(row(binary)) for binary in (False, True)]
        first, second = (answer.outputs[0].as_numpy() for answer in answers)
        assert first.shape == (1, 10)
        assert np.array_equal(first, second)


async def check_grpc_carries_every_datatype():
    async with InferenceGRPCClient(GRPC) as c:
        expect(await c.infer(every(True)))


async def check_grpc_refusals_carry_a_status():
    async with InferenceGRPCClient(GRPC, retries=0) as c:
        for status, request in (
            ("NOT_FOUND", row(model="nope")),
            ("INVALID_ARGUMENT", row(model="types")),
        ):
            with refused(grpc.RpcError, say_grpc) as refusal:
                await c.infer(request)
            assert refusal.status == status, refusal.said


async def check_grpc_tls_and_keys():
    tls = {"use_ssl": True, "root_certificates": SITE["authority"]}
    async with InferenceGRPCClient(SITE["tls_grpc"], **tls) as c:
        assert (await c.infer(row())).outputs[0].shape == [1, 10]
    async with InferenceGRPCClient(SITE["keyed_grpc"], retries=0) as c:
        assert (await c.infer(row(), headers=tuple(KEY.items()))).outputs[0].shape == [1, 10]
        with refused(grpc.RpcError, say_grpc) as refusal:
            await c.infer(row())
        assert refusal.status == "UNAUTHENTICATED"


if __name__ == "__main__":
    main(dict(globals()))
