"""ONNX, by onnx2tf 2.x, which writes TFLite itself: no TensorFlow, a second instead of twenty.

What a tool says about its own success is not believed: every attempt's result is run beside onnxruntime on real
samples, and the first that agrees is taken. The attempts start from the forms of the graph in `_onnx_graph.FORMS`,
each a second time with LSTM, GRU and RNN unrolled where there are any, since the fused operators at times compute
something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from edgepack.converters._interface import custom_operators
from edgepack.converters._onnx_advice import cannot
from edgepack.converters._onnx_bisect import first_wrong_node
from edgepack.converters._onnx_graph import INPUT, Form, forms, recurrent_operators, the_model
from edgepack.converters._onnx_reference import Attempt, Source, Tool, opened, travelled
from edgepack.converters._onnx_select import with_selects
from edgepack.converters._options import read_options
from edgepack.model import Conversion, ConversionRequest, Divergence

__all__ = ["FORMATS", "ROAD", "TOOLCHAIN", "Options", "convert", "first_difference"]

FORMATS = ("onnx",)
ROAD = "onnx2tf"
TOOLCHAIN = "onnx"
# How onnx2tf names the node it gives up at: by its operator, its name or both.
_NOT_IMPLEMENTED = re.compile(r"(?s)\bop=(?:sng_)?(?P<told>\S+)(?: node=(?P<node>\S+))?(?:.*?\bmessage=(?P<why>.*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to convert.

    `inputs` fix open shapes, as ``NAME:1,16000``; `max_difference` is how far from onnxruntime a road's outputs may
    be, as a share of the output's range.
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
    return travelled(source, _attempts(source), Tool(name=ROAD, version=version("onnx2tf")), request.scratch)


def first_difference(request: ConversionRequest) -> Divergence:
    """Return the first node that a refused conversion gets wrong.

    Raises:
        ConversionError: as from `convert`, or what is inside the graph cannot be seen.
        DatasetError: the samples do not fit its inputs.
        RecipeError: an option is unknown.
    """
    options = read_options(Options, request.options)
    source = opened(request, options.inputs, options.max_difference)
    return first_wrong_node(source, _attempts, Tool(name=ROAD, version=version("onnx2tf")), request.scratch)


def _attempts(source: Source) -> Iterator[Attempt]:
    for form in forms(source.model, source.inputs, source.outputs):
        unrolls = (False, True) if form.model and recurrent_operators(form.model.graph) else (False,)
        for unroll in unrolls:
            yield Attempt(
                name=f"{form.name}{', unrolled' if unroll else ''}",
                drive=partial(_driven, form, len(source.inputs), unroll),
            )


def _driven(form: Form, inputs: int, unroll: bool, folder: Path) -> bytes:
    """Return what onnx2tf makes of a private copy: it rewrites the file it is given."""
    import onnx
    import onnx2tf

    model, path = the_model(form), folder / "model.onnx"
    onnx.save(model, str(path))
    try:
        onnx2tf.convert(
            input_onnx_file_path=str(path),
            output_folder_path=str(folder / "out"),
            # Without this, it decides by guess whether an input should be channels-last.
            keep_shape_absolutely_input_names=[INPUT.format(i) for i in range(inputs)],
            copy_onnx_input_output_names_to_tflite=True,
            output_signaturedefs=True,
            not_use_onnxsim=True,
            enable_rnn_unroll=unroll,
            non_verbose=True,
        )
    except NotImplementedError as error:
        known = {name for node in model.graph.node for name in (node.name, node.op_type)}
        if found := _NOT_IMPLEMENTED.search(str(error)):
            for told in (found["node"], found["told"]):
                if told in known:
                    raise cannot(ROAD, model, told, found["why"] or str(error)) from error
        raise
    data = with_selects((folder / "out" / "model_float32.tflite").read_bytes())
    for name in custom_operators(data):
        # What it cannot convert it leaves as an operator that no interpreter has.
        raise cannot(ROAD, model, name.removeprefix("ONNX_"))
    return data
