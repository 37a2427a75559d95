import onnx
import pytest
from onnx import TensorProto, helper

from slipway.bundle.graph import check_graph
from tests.bundles import make_model

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])
B = helper.make_tensor_value_info("b", TensorProto.BOOL, [])


def model_of(*nodes: onnx.NodeProto, initializers=(), functions=()) -> bytes:
    graph = helper.make_graph(list(nodes), "g", [X, B], [Y], list(initializers))
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    return model.SerializeToString()


def external(name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    return tensor


def inside_an_if(node: onnx.NodeProto) -> onnx.NodeProto:
    branch = helper.make_graph([node], "branch", [], [Y])
    return helper.make_node("If", ["b"], ["y"], then_branch=branch, else_branch=branch)


RELU = helper.make_node("Relu", ["x"], ["y"])
FOREIGN = helper.make_node("Run", ["x"], ["y"], domain="evil")
PYTHON = helper.make_node("PyOp", ["x"], ["y"], domain="com.microsoft")
CONTEXT = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", ep_cache_context="/f")


def test_an_ordinary_model_is_let_through():
    check_graph(make_model())
    check_graph(model_of(RELU, inside_an_if(RELU)))


def test_operators_of_the_quantizer_are_let_through():
    check_graph(model_of(helper.make_node("QGemm", ["x"], ["y"], domain="com.microsoft")))


@pytest.mark.parametrize("node", [FOREIGN, PYTHON, CONTEXT], ids=lambda node: node.op_type)
def test_operators_that_reach_outside_are_refused_wherever_they_hide(node):
    function = helper.make_function(
        "local", "f", ["x"], ["y"], [node], [helper.make_opsetid("", 20)]
    )
    hidden = [
        model_of(node),
        model_of(RELU, inside_an_if(inside_an_if(node))),
        model_of(RELU, functions=[function]),
    ]
    for model in hidden:
        with pytest.raises(ValueError, match=node.op_type):
            check_graph(model)


def test_external_data_is_refused_wherever_it_hides():
    constant = helper.make_node("Constant", [], ["y"], value=external())
    sparse = onnx.SparseTensorProto(values=external(), dims=[1])
    sparse_model = onnx.load_from_string(model_of(RELU))
    sparse_model.graph.sparse_initializer.append(sparse)
    training = onnx.load_from_string(model_of(RELU))
    training.training_info.add().initialization.initializer.append(external())
    hidden = [
        model_of(RELU, initializers=[external()]),
        model_of(constant),
        model_of(inside_an_if(constant)),
        sparse_model.SerializeToString(),
        training.SerializeToString(),
    ]
    for model in hidden:
        with pytest.raises(ValueError, match="external data"):
            check_graph(model)


def test_external_data_is_refused_without_its_flag_and_the_flag_without_data():
    flag, data = external(), external()
    flag.ClearField("external_data")
    data.ClearField("data_location")
    for tensor in (flag, data):
        with pytest.raises(ValueError, match="external data"):
            check_graph(model_of(RELU, initializers=[tensor]))


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80", b"\x0a\xff", b"{}", b"PK\x03\x04" + bytes(50), b"\x80\x04\x95" + bytes(50)],
    ids=["empty", "half a number", "longer than the file", "json", "zip", "pickle"],
)
def test_what_is_no_model_is_refused(data):
    with pytest.raises(ValueError, match="no ONNX file"):
        check_graph(data)


def test_a_cut_model_never_passes_nor_crashes():
    model = make_model()
    for size in range(len(model)):
        try:
            check_graph(model[:size])
        except ValueError:
            continue
        onnx.load_from_string(model[:size])  # what passed is a whole protobuf message at least


def test_a_field_number_beyond_32_bits_is_refused():
    # protobuf in C++ drops the upper bits, so this key would be read as another field's there
    with pytest.raises(ValueError, match="damaged"):
        check_graph(b"\xba\x80\x80\x80\x10\x00" + make_model())


def test_nesting_a_thousand_deep_is_walked_without_recursion():
    message = RELU.SerializeToString()
    field = {"node": 1, "attribute": 5, "graph": 6}

    def wrap(number: int, body: bytes) -> bytes:
        size, out = len(body), bytearray([number << 3 | 2])
        while size > 0x7F:
            out.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes([*out, size]) + body

    for _ in range(1000):
        graph = wrap(field["node"], message)
        message = wrap(field["attribute"], wrap(field["graph"], graph))
    check_graph(wrap(7, wrap(field["node"], message)))
