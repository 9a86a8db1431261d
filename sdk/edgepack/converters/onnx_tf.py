"""ONNX by onnx-tf 1.10 and TensorFlow's converter: the second road, for what onnx2tf cannot convert.

onnx-tf keeps the source's layout, channels first, so TFLite gets a transposition around each convolution: the file is
slower than onnx2tf's. Its results are judged as those are, beside onnxruntime on real samples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgepack.converters._onnx_advice import advice, cannot
from edgepack.converters._onnx_bisect import first_wrong_node
from edgepack.converters._onnx_graph import INPUT, OUTPUT, Form, forms, the_model
from edgepack.converters._onnx_reference import Attempt, Source, Tool, opened, travelled
from edgepack.converters._onnx_tf_shim import fitted, lacking
from edgepack.converters._options import read_options
from edgepack.converters._tensorflow import Function, tflite_of
from edgepack.errors import ConversionError
from edgepack.model import Conversion, ConversionRequest, Divergence
from edgepack_runtime.tensors import TensorSpec

__all__ = ["FORMATS", "ROAD", "TOOLCHAIN", "Options", "convert", "first_difference"]

FORMATS = ("onnx",)
ROAD = "onnx-tf"
TOOLCHAIN = "onnx-tf"
_REFUSED = re.compile(r"onnx-tf cannot convert operator '(?P<operator>\w+)'.*")
_AROUND_A_NAME = re.compile(r"(?:PartitionedCall/|onnx_tf_prefix_)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to convert.

    `inputs` fix open shapes, as ``NAME:1,16000``; `max_difference` is how far from onnxruntime the outputs may be, as
    a share of the output's range.
    """

    inputs: tuple[str, ...] = ()
    max_difference: float = 1e-4


def convert(request: ConversionRequest) -> Conversion:
    """Return the first attempt's result that agrees with onnxruntime.

    Raises:
        ConversionError: a dimension is not fixed, onnxruntime cannot run the model, or no attempt agrees with it.
        ParityError: all that came out computes something else.
        DatasetError: the samples do not fit its inputs.
        RecipeError: an option is unknown.
    """
    options = read_options(Options, request.options)
    source = opened(request, options.inputs, options.max_difference)
    backend = fitted()
    tool = Tool(name=ROAD, version=f"{version('onnx-tf')}, tensorflow {version('tensorflow-cpu')}")
    return travelled(source, _attempts(source, backend), tool, request.scratch)


def first_difference(request: ConversionRequest) -> Divergence:
    """Return the first node that a refused conversion gets wrong.

    Raises:
        ConversionError: as from `convert`, or what is inside the graph cannot be seen.
        DatasetError: the samples do not fit its inputs.
        RecipeError: an option is unknown.
    """
    options = read_options(Options, request.options)
    source = opened(request, options.inputs, options.max_difference)
    tool = Tool(name=ROAD, version=version("onnx-tf"))
    return first_wrong_node(source, partial(_attempts, backend=fitted()), tool, request.scratch)


def _attempts(source: Source, backend: Any) -> Iterator[Attempt]:
    for form in forms(source.model, source.inputs, source.outputs, lacking()):
        yield Attempt(name=form.name, drive=partial(_driven, form, source, backend))


def _driven(form: Form, source: Source, backend: Any, _: Path) -> bytes:
    from onnx.helper import tensor_dtype_to_np_dtype

    model = the_model(form)
    for operator in sorted({node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")}):
        if operator in lacking():
            raise cannot(ROAD, model, operator)
    module = backend.prepare(model, logging_level="ERROR").tf_module
    # Without AutoGraph, which rewrites the handlers' Python and fails on some of it.
    run = vars(type(module))["__call__"].python_function
    names = [OUTPUT.format(i) for i in range(len(source.outputs))]

    def call(*values: Any) -> list[Any]:
        results = run(module, **{INPUT.format(i): value for i, value in enumerate(values)})
        return [results[name] for name in names]

    # The form's dtypes, which may not be the source's.
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    inputs = tuple(
        TensorSpec(name=name, dtype=str(tensor_dtype_to_np_dtype(types[name])), shape=spec.shape)
        for name, spec in ((INPUT.format(i), spec) for i, spec in enumerate(source.inputs))
    )
    try:
        return tflite_of(Function(call=call, inputs=inputs, output_names=tuple(names), keep=module))
    except ConversionError as error:
        if found := _REFUSED.search(error.message):
            raise ConversionError(found[0], hint=advice(found["operator"])) from error
        # TensorFlow names its own node after the ONNX node, with more around it.
        raise ConversionError(_AROUND_A_NAME.sub("", error.message), hint=error.hint) from error
