import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cl2cm.encode import onnx_session
from cl2cm.encode.onnx_files import FIELDS, check_graph
from cl2cm.encode.onnx_session import OnnxSession
from cl2cm.encode.vision import load_vision
from cl2cm.errors import WeightsError
from fixtures.world import write_vision


@pytest.fixture
def folder(tmp_path):
    return write_vision(tmp_path / "vision")


def with_external(folder, location, name="scale"):
    """Move a constant out of the graph into a file."""
    model = onnx.load(folder / "model.onnx")
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def test_weights_beside_the_graph_are_part_of_the_fingerprint(folder):
    with_external(folder, "weights.bin")
    prints = set()
    for scale in (255, 128):
        (folder / "weights.bin").write_bytes(np.float32(scale).tobytes())
        assert check_graph(folder / "model.onnx") == [folder / "weights.bin"]
        prints.add(load_vision(f"onnx:{folder}").fingerprint)
    assert len(prints) == 2


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../secret", "a/../../secret", "sub/weights", "", ".", "..", "absent",
                 "link", "~/secret"],
)  # fmt: skip
def test_weights_elsewhere_are_not_read(location, folder):
    (folder.parent / "secret").write_bytes(np.float32(255).tobytes())
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "sub").mkdir()
    (folder / "sub" / "weights").write_bytes(np.float32(255).tobytes())
    with_external(folder, location)
    with pytest.raises(WeightsError, match="weights in a file beside it"):
        load_vision(f"onnx:{folder}")


def hidden(node, tensor=None):
    """A graph whose only interesting part is deep inside."""
    inner = helper.make_graph([node], "inner", [], [], [tensor] if tensor is not None else [])
    branch = helper.make_node("If", ["c"], ["x"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph([branch], "outer", [], [])
    return helper.make_model(graph)


def test_weights_elsewhere_are_found_at_any_depth(tmp_path):
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "t")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    constant = helper.make_node("Constant", [], ["y"], value=tensor)
    plain = helper.make_node("Identity", ["t"], ["y"])
    function = helper.make_function("d", "f", [], ["y"], [constant], [helper.make_opsetid("", 17)])
    in_function = hidden(plain)
    in_function.functions.append(function)
    for number, model in enumerate([hidden(constant), hidden(plain, tensor), in_function]):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(WeightsError, match="'/etc/passwd'"):
            check_graph(path)


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_graphs_with_loops_are_refused(kind, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(hidden(helper.make_node(kind, ["a"], ["b"])).SerializeToString())
    with pytest.raises(WeightsError, match=f"the operator {kind}"):
        check_graph(path)


def test_operators_of_a_library_are_not_loaded(folder):
    model = onnx.load(folder / "model.onnx")
    model.graph.node[0].domain = "evil"
    model.opset_import.append(helper.make_opsetid("evil", 1))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="an ONNX graph"):
        load_vision(f"onnx:{folder}")


def test_the_table_of_fields_is_the_schema_of_onnx():
    """Every field through which a message reaches a node or a tensor, and no other."""
    reaches = {"NodeProto", "TensorProto", "StringStringEntryProto"}
    messages = {name: getattr(onnx, name).DESCRIPTOR for name in FIELDS}
    for name, descriptor in messages.items():
        there = {
            field.number: field.message_type.name
            for field in descriptor.fields
            if field.message_type is not None
            and (field.message_type.name in FIELDS or field.name == "external_data")
        }
        assert FIELDS[name] == there
    left = [
        field.message_type
        for descriptor in messages.values()
        for field in descriptor.fields
        if field.message_type is not None and field.message_type.name not in {*FIELDS, *reaches}
    ]
    seen = set()
    while left:  # what is left out leads to none of them
        one = left.pop()
        assert one.name not in FIELDS
        if one.name not in seen:
            seen.add(one.name)
            left += [field.message_type for field in one.fields if field.message_type]


@pytest.mark.parametrize("cut", [1, 7, 100, -1, -50])
def test_a_cut_file_is_damaged(cut, folder):
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[:cut])
    with pytest.raises(WeightsError, match="an ONNX graph"):
        check_graph(folder / "model.onnx")


def test_a_graph_of_endless_records_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cl2cm.encode.onnx_files.MAX_RECORDS", 1000)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x01" * 2000)
    with pytest.raises(WeightsError, match="more than 1,000 records"):
        check_graph(path)


def test_a_second_location_cannot_hide_behind_a_first(folder):
    model = onnx.load(folder / "model.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for name in ("weights.bin", "/etc/passwd"):
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", name
    (folder / "weights.bin").write_bytes(b"1234")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="weights in a file beside it"):
        check_graph(folder / "model.onnx")


def pixels_to(nodes, functions=(), **constants):
    """A graph of our form, whose features are the pixels' means and the tensor "extra"."""
    ends = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMean", ["extra"], ["mean"], keepdims=0),
        helper.make_node("Add", ["means", "mean"], ["features"]),
    ]
    graph = helper.make_graph(
        [*nodes, *ends],
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 8, 8, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("x", 1)]
    return helper.make_model(graph, opset_imports=sets, functions=functions, ir_version=8)


def function(name, called, times):
    nodes = [
        helper.make_node(called, [f"t{i}" if i else "i"], [f"t{i + 1}" if i + 1 < times else "o"],
                         domain="x" if called[0] == "f" else "")
        for i in range(times)
    ]  # fmt: skip
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("x", 1)]
    return helper.make_function("x", name, ["i"], ["o"], nodes, sets)


def test_functions_in_functions_are_counted_as_they_would_be_written_out(tmp_path):
    path = tmp_path / "model.onnx"
    start = [helper.make_node("f8", ["constant"], ["extra"], domain="x")]
    for times, fits in ((2, True), (10, False)):
        functions = [function("f0", "Identity", 1)]
        functions += [function(f"f{n}", f"f{n - 1}", times) for n in range(1, 9)]
        path.write_bytes(pixels_to(start, functions, constant=np.float32([1])).SerializeToString())
        if fits:
            check_graph(path)
        else:
            with pytest.raises(WeightsError, match="functions that are many more"):
                check_graph(path)
    loop = [function("f8", "f8", 1)]
    path.write_bytes(pixels_to(start, loop, constant=np.float32([1])).SerializeToString())
    with pytest.raises(WeightsError, match="functions that are many more"):
        check_graph(path)


def constant(side):
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    return helper.make_node("ConstantOfShape", [side], ["a0"], value=value)


def test_a_graph_that_asks_for_terabytes_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    nodes = [constant("shape"), helper.make_node("Identity", ["a0"], ["extra"])]
    path.write_bytes(pixels_to(nodes, shape=np.int64([10**6, 2000])).SerializeToString())
    session = OnnxSession(path)
    with pytest.raises(WeightsError, match="within bounds"):
        session.run(np.zeros((1, 8, 8, 3), np.uint8))


def test_a_graph_that_computes_for_years_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_session, "SECONDS", 0.2)
    monkeypatch.setattr(onnx_session, "FRAME_SECONDS", 0.0)
    path = tmp_path / "model.onnx"
    steps = [helper.make_node("MatMul", [f"a{i}", f"a{i}"], [f"a{i + 1}"]) for i in range(2000)]
    nodes = [constant("shape"), *steps, helper.make_node("Identity", ["a2000"], ["extra"])]
    path.write_bytes(pixels_to(nodes, shape=np.int64([600, 600])).SerializeToString())
    session = OnnxSession(path, threads=1)  # nothing is computed as it is opened
    with pytest.raises(WeightsError, match=r"more than 0 s"):
        session.run(np.zeros((1, 8, 8, 3), np.uint8))
