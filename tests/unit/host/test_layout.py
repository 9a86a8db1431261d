"""Inputs and outputs turned channels-last or channels-first: the same model, other shapes, and no turn too many."""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgepack.errors import ConversionError, RecipeError
from edgepack.flatbuffer import read_model
from edgepack.layout import LaidOut, laid_out, turned_arrays
from edgepack.recipe import parse_layout
from edgepack_runtime.tensors import Array, TensorSpec

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
Step = tuple[str, tuple[int, ...]]
# What a converter makes of a channels-first network: a turn, the network, a turn back.
FIRST: list[Step] = [("TRANSPOSE", TO_LAST), ("MAX_POOL_2D", ()), ("TRANSPOSE", TO_FIRST)]


class Chain:
    """A TFLite file of operators one behind the other, from ``image`` to ``mask``."""

    def __init__(self, shape: Sequence[int], steps: Sequence[Step]) -> None:
        self.graph, self.model = schema.SubGraphT(), schema.ModelT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.operatorCodes, self.model.buffers = [], [schema.BufferT()]
        at = first = self.tensor("image", shape)
        for kind, values in steps:
            at = self.step(at, kind, values)
        self.graph.tensors[at].name = "mask"
        self.graph.inputs, self.graph.outputs = [first], [at]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = [self.entry("image", first)], [self.entry("mask", at)]
        self.model.version, self.model.subgraphs, self.model.signatureDefs = 3, [self.graph], [signature]

    def tensor(self, name: str, shape: Sequence[int], content: bytes = b"") -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, list(shape), 0
        tensor.type = schema.TensorType.INT32 if content else schema.TensorType.FLOAT32
        if content:
            self.model.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    @staticmethod
    def entry(name: str, tensor: int) -> schema.TensorMapT:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, tensor
        return entry

    def step(self, at: int, kind: str, values: tuple[int, ...]) -> int:
        shape = list(self.graph.tensors[at].shape)
        operator, code = schema.OperatorT(), schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        code.version = 1
        operator.opcodeIndex, operator.inputs = len(self.model.operatorCodes), [at]
        self.model.operatorCodes.append(code)
        if values:
            content = np.array(values, "<i4").tobytes()
            operator.inputs = [at, self.tensor(f"{kind} {at}", [len(values)], content)]
            shape = [shape[axis] for axis in values] if kind == "TRANSPOSE" else list(values)
        if kind == "MAX_POOL_2D":
            options = schema.Pool2DOptionsT()
            options.padding, options.strideH, options.strideW = schema.Padding.SAME, 1, 1
            options.filterHeight = options.filterWidth = 2
            operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.Pool2DOptions, options
        operator.outputs = [self.tensor(f"after {kind} {at}", shape)]
        self.graph.operators.append(operator)
        return operator.outputs[0]

    def file(self) -> bytes:
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def specs_of(data: bytes) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    graph = read_model(data).subgraphs[0]

    def specs(indices: tuple[int, ...]) -> tuple[TensorSpec, ...]:
        tensors = [graph.tensors[i] for i in indices]
        return tuple(TensorSpec(name=t.name, dtype=t.dtype, shape=t.shape) for t in tensors)

    return specs(graph.inputs), specs(graph.outputs)


def lay(data: bytes, *wanted: str) -> LaidOut:
    found = laid_out(data, *specs_of(data), parse_layout(wanted))
    assert found is not None
    return found


def operators(data: bytes) -> list[str]:
    return [operator.name for _, operator in read_model(data).operators()]


def run(data: bytes, image: Array) -> Array:
    runner = Interpreter(model_content=data).get_signature_runner("serving_default")
    return runner(image=image)["mask"]


def noise(*shape: int) -> Array:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def test_a_channels_first_model_becomes_channels_last_without_any_turn() -> None:
    laid = lay(Chain([1, 2, 4, 5], FIRST).file(), "nhwc")
    assert operators(laid.data) == ["MAX_POOL_2D"]
    assert [str(spec) for spec in (*laid.inputs, *laid.outputs)] == [
        "image: float32[1, 4, 5, 2]", "mask: float32[1, 4, 5, 2]",
    ]  # fmt: skip


@pytest.mark.parametrize("wanted", [("nhwc",), ("image=nhwc",), ("mask=nhwc",)])
def test_a_device_that_feeds_the_other_layout_gets_the_same_numbers(wanted: tuple[str, ...]) -> None:
    data, image = Chain([1, 2, 4, 5], FIRST).file(), noise(1, 2, 4, 5)
    laid = lay(data, *wanted)
    fed = turned_arrays({"image": image[None]}, laid.orders)["image"][0]
    expected = turned_arrays({"mask": run(data, image)[None]}, laid.orders)["mask"][0]
    np.testing.assert_array_equal(run(laid.data, fed), expected)


def test_a_channels_last_model_becomes_channels_first() -> None:
    data, image = Chain([1, 4, 5, 2], [("MAX_POOL_2D", ())]).file(), noise(1, 4, 5, 2)
    laid = lay(data, "nchw")
    found = run(laid.data, np.ascontiguousarray(image.transpose(TO_FIRST)))
    np.testing.assert_array_equal(found, run(data, image).transpose(TO_FIRST))


def test_there_and_back_is_the_model_it_was() -> None:
    data = Chain([1, 4, 5, 2], [("MAX_POOL_2D", ())]).file()
    assert operators(lay(lay(data, "nchw").data, "nhwc").data) == ["MAX_POOL_2D"]


def test_of_one_channel_a_reshape_is_a_turn() -> None:
    steps: list[Step] = [("RESHAPE", (1, 4, 5, 1)), ("MAX_POOL_2D", ()), ("RESHAPE", (1, 1, 4, 5))]
    assert operators(lay(Chain([1, 1, 4, 5], steps).file(), "nhwc").data) == ["MAX_POOL_2D"]


def test_what_stands_between_a_tensor_and_its_turn_does_not_hide_it() -> None:
    laid = lay(Chain([1, 2, 4, 5], [("RELU", ()), *FIRST]).file(), "nhwc")
    assert laid.inputs[0].shape == (1, 4, 5, 2)


def test_a_turn_that_something_else_needs_stays() -> None:
    laid = lay(Chain([1, 2, 4, 5], FIRST).file(), "image=nhwc")
    assert operators(laid.data) == ["MAX_POOL_2D", "TRANSPOSE"]


def test_the_turns_are_counted_and_told() -> None:
    assert lay(Chain([1, 2, 4, 5], FIRST).file(), "nhwc").note == (
        "layout: in the bundle image [1, 2, 4, 5] is [1, 4, 5, 2] (nhwc), mask [1, 2, 4, 5] is [1, 4, 5, 2] (nhwc); "
        "TRANSPOSE operators 2 before, 0 after"
    )


def test_a_model_that_has_the_layout_already_is_left_alone() -> None:
    data = Chain([1, 4, 5, 2], [("MAX_POOL_2D", ())]).file()
    assert laid_out(data, *specs_of(data), parse_layout(["nhwc"])) is None


def test_the_sources_layout_is_the_default() -> None:
    data = Chain([1, 2, 4, 5], FIRST).file()
    assert laid_out(data, *specs_of(data), parse_layout([])) is None


def test_a_tensor_that_may_be_no_image_is_refused_until_it_is_named() -> None:
    data = Chain([1, 2, 4, 5], [*FIRST, ("RESHAPE", (1, 2, 5, 4))]).file()
    with pytest.raises(ConversionError, match="cannot be told whether 'mask'") as caught:
        lay(data, "nhwc")
    assert "--layout mask=source" in (caught.value.hint or "")
    assert lay(data, "nhwc", "mask=source").outputs[0].shape == (1, 2, 5, 4)


def test_one_value_a_channel_has_no_layout_and_stays() -> None:
    data = Chain([1, 2, 4, 5], [*FIRST, ("RESHAPE", (1, 40, 1, 1))]).file()
    assert lay(data, "nhwc").outputs[0].shape == (1, 40, 1, 1)


def test_a_model_without_images_is_refused() -> None:
    data = Chain([1, 40], [("RELU", ())]).file()
    with pytest.raises(ConversionError, match="no input or output is seen to be an image"):
        lay(data, "nhwc")


def test_a_named_sequence_is_turned() -> None:
    laid = lay(Chain([1, 2, 9], [("RELU", ())]).file(), "image=nhwc")
    assert laid.inputs[0].shape == (1, 9, 2)


def test_a_tensor_without_channels_cannot_be_turned() -> None:
    with pytest.raises(ConversionError, match=r"\[1, 40\] has no channels to turn"):
        lay(Chain([1, 40], [("RELU", ())]).file(), "image=nhwc")


def test_a_layout_for_a_tensor_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConversionError, match="'picture'; the model has image, mask"):
        lay(Chain([1, 2, 4, 5], FIRST).file(), "picture=nhwc")


@pytest.mark.parametrize("text", ["NHWC", "image=hwc", "", "nhwc=image"])
def test_an_unknown_layout_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="is not known"):
        parse_layout([text])


def test_two_layouts_for_one_tensor_are_refused() -> None:
    with pytest.raises(RecipeError, match="all images cannot be nhwc and nchw"):
        parse_layout(["nhwc", "nchw"])
