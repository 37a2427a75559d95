"""The gRPC face over real sockets, asked by clients that nobody here wrote."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from slipway.errors import SlipwayError
from slipway.host.guard.caller import Caller
from slipway.host.guard.tls import new_context
from slipway.host.request.binary import encode
from slipway.host.wire.grpc import frames
from slipway.host.wire.grpc.convert import FIELDS
from slipway.host.wire.grpc.frames import frame
from slipway.host.wire.grpc.limits import GrpcLimits
from slipway.host.wire.grpc.schema import HEALTH, SERVICE, message_class
from slipway.host.wire.grpc.server import GrpcServer
from slipway.host.wire.metadata import statistics
from slipway.store.split import takes_candidate
from tests.certificates import make_certificate
from tests.clients import MISSING, find_python
from tests.grpc_host import (
    DATATYPES,
    A,
    B,
    GrpcHost,
    KeyGuard,
    grpc_host,
    make_contract,
    make_request,
    method,
)
from tests.support.pace import limit
from tests.support.waiting import wait_until

CLIENTS = find_python("triton")


@pytest.fixture(scope="module")
def running() -> Iterator[GrpcHost]:
    with grpc_host() as started:
        yield started


@pytest.fixture
def host(running: GrpcHost) -> GrpcHost:
    running.core.draining, running.core.ready = False, True
    running.serve(running.load(A))
    return running


@pytest.fixture
def channel(host: GrpcHost) -> Iterator[grpc.Channel]:
    with host.channel() as opened:
        yield opened


def refusal(call: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code(), error.details(), dict(error.trailing_metadata())


def infer(channel: grpc.Channel, **fields: Any) -> Any:
    return method(channel, "ModelInfer")(make_request(**fields), timeout=limit(10))


def test_an_answer_names_its_version_twice(channel: grpc.Channel) -> None:
    answer, call = method(channel, "ModelInfer").with_call(make_request(id="7"))
    assert (answer.model_name, answer.model_version, answer.id) == ("m", A, "7")
    assert list(answer.raw_output_contents) == [np.array([1, 2], np.float32).tobytes()]
    assert dict(call.trailing_metadata()) == {"slipway-version": A}


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_back_as_it_went(host: GrpcHost, channel: grpc.Channel,
                                              datatype: str) -> None:  # fmt: skip
    values = np.array(["a", "é"], object) if datatype == "BYTES" else np.array([[1, 0]])
    dtypes = {"BF16": np.uint16, "FP16": np.float16, "BYTES": object, "BOOL": bool}
    dtype = dtypes.get(datatype) or np.dtype(datatype.lower().replace("fp", "float"))
    values = values.reshape(1, 2).astype(dtype)
    contract = make_contract(datatype.lower(), x=datatype)
    host.serve(host.load(B, contract), model=contract.model)
    tensor = {"name": "x", "datatype": datatype, "shape": [1, 2]}
    raw = encode(values, datatype)
    fields = {"model_name": contract.model, "inputs": [tensor], "raw_input_contents": [raw]}
    assert list(infer(channel, **fields).raw_output_contents) == [raw]
    if datatype in FIELDS:
        listed = values.reshape(-1).tolist()
        sent = [v.encode() for v in listed] if datatype == "BYTES" else listed
        tensor["contents"] = {FIELDS[datatype]: sent}
        answer = infer(channel, **{**fields, "raw_input_contents": []})
        assert list(getattr(answer.outputs[0].contents, FIELDS[datatype])) == sent
        assert not answer.raw_output_contents


def test_a_large_message_goes_both_ways(channel: grpc.Channel, host: GrpcHost) -> None:
    contract = make_contract("big", x="FP32")
    contract = contract.model_copy(update={"max_rows": 10**7})
    host.serve(host.load(B, contract), model="big")
    rows = 1_900_000  # 15.2 MB
    values = np.arange(rows * 2, dtype=np.float32).tobytes()
    with host.channel(max_receive_message_length=-1) as wide:
        answer = infer(
            wide, model_name="big", raw_input_contents=[values],
            inputs=[{"name": "x", "datatype": "FP32", "shape": [rows, 2]}],
        )  # fmt: skip
        assert answer.raw_output_contents[0] == values
        code, _, metadata = refusal(lambda: infer(wide, raw_input_contents=[values * 2]))
        assert (code, metadata["slipway-code"]) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "too_large",
        )


def test_refusals_have_the_status_of_their_code_and_no_more_words(
    host: GrpcHost, channel: grpc.Channel
) -> None:
    assert refusal(lambda: infer(channel, model_name="nope")) == (
        grpc.StatusCode.NOT_FOUND,
        "there is no model 'nope' here",
        {"slipway-code": "model_not_found"},
    )
    code, _, metadata = refusal(lambda: infer(channel, model_version="f" * 64))
    assert (code, metadata["slipway-code"]) == (grpc.StatusCode.NOT_FOUND, "version_not_found")
    both = {"model_version": "f" * 64, "raw_input_contents": [b"1234567"]}
    code, _, metadata = refusal(lambda: infer(channel, **both))
    assert (code, metadata["slipway-code"]) == (grpc.StatusCode.NOT_FOUND, "version_not_found")
    code, _, metadata = refusal(lambda: infer(channel, raw_input_contents=[b"1234567"]))
    assert (code, metadata["slipway-code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "bad_request")
    host.core.awaited = None
    try:
        code, _, metadata = refusal(lambda: infer(channel, model_name="nope"))
    finally:
        host.core.awaited = frozenset()
    assert (code, metadata["slipway-code"]) == (grpc.StatusCode.UNAVAILABLE, "not_ready")
    host.engines[A].error = RuntimeError("/opt/secret at 0x7f")
    code, details, metadata = refusal(lambda: infer(channel))
    assert (code, details) == (grpc.StatusCode.INTERNAL, "the model failed on this request")
    assert metadata == {"slipway-code": "model_failed", "slipway-version": A}
    host.core.draining = True
    code, _, metadata = refusal(lambda: infer(channel))
    assert (code, metadata["retry-after"]) == (grpc.StatusCode.UNAVAILABLE, "1")


def test_a_named_version_answers_and_a_key_decides_for_the_canary(
    host: GrpcHost, channel: grpc.Channel
) -> None:
    host.serve(host.load(A), host.load(B), percent=50)
    for key in ("caller-1", "caller-2", "caller-3", "caller-4"):
        answer = method(channel, "ModelInfer")(make_request(), metadata=[("slipway-key", key)])
        assert answer.model_version == (B if takes_candidate(B, key, 50) else A)
    assert infer(channel, model_version=A[:12]).model_version == A


def test_a_client_that_cancels_frees_its_place(host: GrpcHost, channel: grpc.Channel) -> None:
    engine = host.engines[A]
    engine.hold = True
    future = method(channel, "ModelInfer").future(make_request())
    wait_until(lambda: host.core.in_flight == 1, "it is asked")
    future.cancel()
    wait_until(lambda: host.core.in_flight == 0, "it is forgotten")
    assert engine.jobs.pop().cancelled


def test_a_deadline_reaches_the_queue(host: GrpcHost, channel: grpc.Channel) -> None:
    engine = host.engines[A]
    engine.hold = True
    future = method(channel, "ModelInfer").future(make_request(), timeout=600)
    wait_until(lambda: engine.jobs, "a job waits")
    left_s = engine.jobs[0].deadline - engine.jobs[0].arrived
    assert 500 < left_s < 610  # a client rounds to the next unit that fits its header
    host.call(engine.expire)
    assert future.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    engine.jobs.clear()


def test_metadata_of_server_and_models(channel: grpc.Channel) -> None:
    def ask(name: str, **fields: Any) -> Any:
        request = "ModelMetadata" if fields else name
        return method(channel, name)(message_class(f"{request}Request")(**fields))

    assert ask("ServerLive").live
    assert ask("ServerReady").ready
    assert ask("ServerMetadata").name == "slipway"


@pytest.mark.parametrize("version", ["", A, A[:12]])
def test_a_model_describes_itself(channel: grpc.Channel, version: str) -> None:
    def ask(name: str) -> Any:
        return method(channel, name)(message_class(f"{name}Request")(name="m", version=version))

    assert ask("ModelReady").ready
    metadata = ask("ModelMetadata")
    assert (metadata.platform, list(metadata.versions)) == ("onnxruntime_onnx", [A])
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
        ("x", "FP32", [-1, 2])
    ]
    assert ask("ModelConfig").config.max_batch_size == 1000


def test_statistics_are_those_of_the_rest_face() -> None:
    with grpc_host() as host, host.channel() as channel:
        compare_statistics(host, channel)


def compare_statistics(host: GrpcHost, channel: grpc.Channel) -> None:
    for rows in (1, 3):
        tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 2]}
        infer(channel, inputs=[tensor], raw_input_contents=[bytes(8 * rows)])
    refusal(lambda: infer(channel, raw_input_contents=[b"1234567"]))
    loaded = host.core.find("m").stable
    assert loaded is not None
    for version in ("", A, A[:12]):
        request = message_class("ModelStatisticsRequest")(name="m", version=version)
        (found,) = method(channel, "ModelStatistics")(request).model_stats
        assert found == message_class("ModelStatistics")(**statistics("m", loaded))
        assert (found.name, found.version) == ("m", A)
        spent = found.inference_stats
        assert (spent.success.count, spent.fail.count, spent.queue.count) == (2, 1, 2)
    nope = message_class("ModelStatisticsRequest")(name="nope")
    code, _, _ = refusal(lambda: method(channel, "ModelStatistics")(nope))
    assert code == grpc.StatusCode.NOT_FOUND


def test_what_others_offer_and_this_host_does_not_is_unimplemented(channel: grpc.Channel) -> None:
    for name in ("RepositoryIndex", "SystemSharedMemoryRegister", "CudaSharedMemoryStatus",
                 "RepositoryModelLoad", "LogSettings", "ModelStreamInfer", "X"):  # fmt: skip
        code, details, _ = refusal(lambda n=name: channel.unary_unary(f"/{SERVICE}/{n}")(b""))
        assert (code, details) == (grpc.StatusCode.UNIMPLEMENTED, "this host has no such method")


@pytest.mark.parametrize("encoding", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_compressed_call_is_answered_as_a_plain_one(
    channel: grpc.Channel, encoding: grpc.Compression
) -> None:
    values = np.arange(2000, dtype=np.float32)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1000, 2]}
    fields = {"inputs": [tensor], "raw_input_contents": [values.tobytes()]}
    plain = infer(channel, **fields)
    packed = method(channel, "ModelInfer")(make_request(**fields), compression=encoding)
    assert packed == plain


def test_a_compressed_bomb_is_refused_without_its_memory(
    host: GrpcHost, channel: grpc.Channel
) -> None:
    """17 MiB of zeros are 17 KiB on the wire."""
    call = method(channel, "ModelInfer")
    request = make_request(raw_input_contents=[bytes(17 * 2**20)])
    code, details, _ = refusal(lambda: call(request, compression=grpc.Compression.Gzip))
    assert (code, details) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "a message has more than 16777216 bytes",
    )
    assert infer(channel).model_version == A


def test_the_health_client_sees_readiness_change(host: GrpcHost, channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse

    def check(service: str) -> Any:
        return stub.Check(health_pb2.HealthCheckRequest(service=service)).status

    assert [check(name) for name in ("", SERVICE, "m")] == [serving.SERVING] * 3
    assert refusal(lambda: check("nope"))[0] == grpc.StatusCode.NOT_FOUND
    host.core.awaited = frozenset({"nope"})
    assert check("nope") == serving.NOT_SERVING
    host.core.awaited = frozenset()
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
    assert next(watch).status == serving.SERVING
    host.core.ready = False
    assert next(watch).status == serving.NOT_SERVING
    assert [check(name) for name in ("", "m")] == [serving.NOT_SERVING, serving.SERVING]
    watch.cancel()


def test_the_reflection_client_finds_every_service_and_its_files(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {SERVICE, HEALTH} < set(database.get_services())
    file = database.FindFileContainingSymbol(f"{SERVICE}.ModelInfer")
    assert isinstance(file, descriptor_pb2.FileDescriptorProto)
    assert file.service[0].name == "GRPCInferenceService"
    with pytest.raises(KeyError):
        database.FindFileByName("no.proto")
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    odd = reflection_pb2.ServerReflectionRequest(all_extension_numbers_of_type="x")
    (answer,) = stub.ServerReflectionInfo(iter([odd]))
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_keys_open_what_they_are_for() -> None:
    guard = KeyGuard(
        all=Caller("all"),
        other=Caller("other", models=frozenset({"other"})),
        reader=Caller("reader", scopes=frozenset({"metadata"})),
    )
    with grpc_host(guard=guard) as host, host.channel() as channel:

        def ask(word: str) -> Any:
            metadata = [("authorization", f"Bearer {word}")] if word else []
            return method(channel, "ModelInfer")(make_request(), metadata=metadata)

        assert ask("all").model_version == A
        assert refusal(lambda: ask(""))[0] == grpc.StatusCode.UNAUTHENTICATED
        assert refusal(lambda: ask("wrong"))[0] == grpc.StatusCode.UNAUTHENTICATED
        for word in ("other", "reader"):
            code, details, _ = refusal(lambda w=word: ask(w))
            assert (code, details) == (
                grpc.StatusCode.PERMISSION_DENIED,
                "this key does not allow that",
            )
        counted = message_class("ModelStatisticsRequest")(name="m")
        for word, allowed in (("reader", True), ("other", False)):
            said = [("authorization", f"Bearer {word}")]
            call = partial(method(channel, "ModelStatistics"), counted, metadata=said)
            if allowed:
                assert call().model_stats[0].version == A
            else:
                assert refusal(call)[0] == grpc.StatusCode.PERMISSION_DENIED
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest()).status == 1
        assert refusal(lambda: next(stub.Watch(health_pb2.HealthCheckRequest())))[0] == (
            grpc.StatusCode.UNAUTHENTICATED
        )


def test_a_stopping_server_answers_what_it_took() -> None:
    with grpc_host() as host, host.channel() as channel:
        engine = host.engines[A]
        engine.hold = True
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == 1
        future = method(channel, "ModelInfer").future(make_request())
        wait_until(lambda: engine.jobs, "a job waits")
        host.loop.call_soon_threadsafe(lambda: host.loop.call_later(0.3, engine.run))
        started = time.monotonic()
        host.do(host.server.stop(limit(10)))
        assert 0.2 < time.monotonic() - started < limit(5)
        assert future.result().model_version == A
        assert [update.status for update in watch] == [2]
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", host.port))


def test_a_port_that_is_taken_is_named(host: GrpcHost) -> None:
    second = GrpcServer(host.core, KeyGuard())
    with pytest.raises(SlipwayError, match=f"port {host.port} on 127.0.0.1 is in use"):
        host.do(second.start("127.0.0.1", host.port))


def make_identity(folder: Path) -> tuple[Path, Path]:
    """Make a certificate and its key in a folder of their own."""
    folder.mkdir()
    return make_certificate(folder)


def test_tls_is_spoken_and_a_new_certificate_just_counts(tmp_path: Path) -> None:
    first, second = (make_identity(tmp_path / name) for name in ("first", "second"))
    context = new_context("h2")
    context.load_cert_chain(*first)
    with grpc_host(tls=context) as host:
        for chain, _ in (first, second):
            credentials = grpc.ssl_channel_credentials(chain.read_bytes())
            with grpc.secure_channel(f"localhost:{host.port}", credentials) as channel:
                assert infer(channel).model_version == A
            context.load_cert_chain(*second)


FLOODS = 5


def make_flood(count: int) -> bytes:
    """Make the bytes of a client that begins calls and resets them at once."""
    path = f"/{SERVICE}/ModelInfer".encode()
    block = b"\x83\x86\x44" + bytes([len(path)]) + path + b"\x0f\x10\x10application/grpc"
    begun = frame(frames.HEADERS, frames.END_HEADERS, 1, block)
    head, block = begun[:5], begun[9:]
    pairs = [
        head + n.to_bytes(4, "big") + block + frames.reset(n, frames.CANCEL)
        for n in range(1, 2 * count, 2)
    ]
    return frames.PREFACE + frame(frames.SETTINGS, 0, 0) + b"".join(pairs)


def is_ended(port: int, data: bytes) -> bool:
    """Send; return whether the host ended the connection."""
    with socket.create_connection(("127.0.0.1", port), limit(10)) as wire:
        try:
            wire.sendall(data)
            while wire.recv(65536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True


def call_s(channel: grpc.Channel, while_: Callable[[], bool]) -> list[float]:
    """Ask while something is so; return how long each call took."""
    call, request = method(channel, "ModelInfer"), make_request()
    times = []
    while while_():
        began = time.perf_counter()
        call(request)
        times.append(time.perf_counter() - began)
    return times


def test_a_rapid_reset_is_ended_and_hurts_nobody_else(
    host: GrpcHost, channel: grpc.Channel
) -> None:
    flood, ended = make_flood(100_000), []

    def flood_again_and_again() -> None:
        ended.extend(is_ended(host.port, flood) for _ in range(FLOODS))

    flooding = threading.Thread(target=flood_again_and_again)
    flooding.start()
    busy_s = call_s(channel, flooding.is_alive)
    assert ended == [True] * FLOODS
    counts = iter(range(len(busy_s)))
    quiet_s = call_s(channel, lambda: next(counts, None) is not None)
    assert np.median(busy_s) < 4 * np.median(quiet_s) + limit(0.005)
    assert max(busy_s) < limit(1)
    assert host.core.in_flight == 0
    wait_until(lambda: len(host.server._connections) <= 2, "the connection is gone")


def test_a_path_that_is_no_text_ends_nothing(host: GrpcHost, channel: grpc.Channel) -> None:
    block = b"\x83\x86\x44\x04/\xff\xfe/" + b"\x0f\x10\x10application/grpc"
    with socket.create_connection(("127.0.0.1", host.port), limit(10)) as wire:
        wire.sendall(frames.PREFACE + frame(frames.SETTINGS, 0, 0) + frame(1, 5, 1, block))
        told = b""
        while b"grpc-status\x0212" not in told:
            part = wire.recv(65536)
            assert part, told
            told += part
    assert infer(channel).model_version == A


def test_a_small_limit_is_the_limit() -> None:
    with grpc_host(limits=GrpcLimits(message_bytes=1000)) as host, host.channel() as channel:
        code, details, _ = refusal(lambda: infer(channel, raw_input_contents=[bytes(2000)]))
        assert (code, details) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "a message has more than 1000 bytes",
        )
        assert infer(channel).model_version == A


TRITON = """
import asyncio, sys
import numpy as np
import tritonclient.grpc as sync, tritonclient.grpc.aio as aio
from tritonclient.utils import InferenceServerException

url = sys.argv[1]
x = np.arange(20, dtype=np.float32).reshape(10, 2)

def tensor(kind):
    made = kind.InferInput("x", [10, 2], "FP32")
    made.set_data_from_numpy(x)
    return made

client = sync.InferenceServerClient(url)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("m")
assert client.get_server_metadata().name == "slipway"
assert client.get_model_metadata("m").inputs[0].datatype == "FP32"
assert client.get_model_config("m").config.max_batch_size == 1000
more = {"outputs": [sync.InferRequestedOutput("y_x")], "priority": 1, "timeout": 10**6}
answer = client.infer("m", [tensor(sync)], request_id="1", **more)
assert (answer.as_numpy("y_x") == x).all() and answer.get_response().id == "1"
for act in (lambda: client.infer("nope", [tensor(sync)]), client.get_model_repository_index,
            client.get_system_shared_memory_status):
    try:
        act()
        raise SystemExit("not refused")
    except InferenceServerException as error:
        print(error.status())

async def many():
    async with aio.InferenceServerClient(url) as client:
        asked = [client.infer("m", [tensor(aio)]) for _ in range(200)]
        assert all((a.as_numpy("y_x") == x).all() for a in await asyncio.gather(*asked))

asyncio.run(many())
"""


@pytest.mark.skipif(not CLIENTS, reason=MISSING)
def test_tritonclient_works_unchanged(host: GrpcHost, channel: grpc.Channel) -> None:
    assert CLIENTS
    done = subprocess.run(
        [CLIENTS, "-c", TRITON, f"127.0.0.1:{host.port}"],
        capture_output=True, text=True, timeout=limit(60), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["StatusCode.NOT_FOUND", *["StatusCode.UNIMPLEMENTED"] * 2]


def test_the_compiled_schema_is_that_of_the_proto_files(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    folder = Path(__file__).parents[2] / "src/slipway/host/wire/grpc"
    made = tmp_path / "protocol.binpb"
    files = ["inference.proto", "health.proto", "reflection.proto"]
    assert protoc.main(["", f"-I{folder}", f"--descriptor_set_out={made}", *files]) == 0
    assert made.read_bytes() == (folder / "protocol.binpb").read_bytes()
