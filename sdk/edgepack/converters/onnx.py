"""ONNX, by onnx2tf 2.x, which writes TFLite itself: no TensorFlow, a second instead of twenty.

What a tool says about its own success is not believed: every road's result is run beside onnxruntime on real
samples, and the first that agrees is taken. The roads, in order: the graph cleaned by onnxslim, by onnxsim, and as it
is; each a second time with LSTM, GRU and RNN unrolled where there are any, since the fused operators at times compute
something else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.converters._interface import Port, in_order, refuse_foreign_operators, signature_entries, with_signature
from edgepack.converters._onnx_graph import (
    CLEANERS,
    INPUT,
    OUTPUT,
    cleaned,
    input_specs,
    prepared,
    recurrent_operators,
)
from edgepack.converters._options import named_shapes, read_options
from edgepack.converters._parity import check_interface, difference, judged_samples, run_graph
from edgepack.dataset import bind_feeds, take_samples
from edgepack.errors import ConversionError
from edgepack.model import Conversion, ConversionRequest
from edgepack_runtime.tensors import DTYPES, Array, TensorSpec

__all__ = ["FORMATS", "ROAD", "TOOLCHAIN", "Options", "convert"]

FORMATS = ("onnx",)
ROAD = "onnx2tf"
TOOLCHAIN = "onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to convert.

    `inputs` fix open shapes, as ``NAME:1,16000``; `max_difference` is how far from onnxruntime a road's outputs may
    be, as a share of the output's range.
    """

    inputs: tuple[str, ...] = ()
    max_difference: float = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Road:
    cleaner: str
    unroll: bool

    def __str__(self) -> str:
        return f"onnx2tf on the graph {self.cleaner}{', unrolled' if self.unroll else ''}".replace(
            "graph onnx", "graph cleaned by onnx"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """What a road's result is compared with: samples and onnxruntime's outputs on them, [n, ...] with the batch."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feeds: Mapping[str, Array]
    reference: Mapping[str, Array]
    limit: float


def convert(request: ConversionRequest) -> Conversion:
    """Return the first road's result that agrees with onnxruntime.

    Raises:
        ConversionError: a dimension is not fixed, onnxruntime cannot run the model, or no road agrees with it.
        DatasetError: the samples do not fit its inputs.
        RecipeError: an option is unknown.
    """
    import onnx

    options = read_options(Options, request.options)
    try:
        model = onnx.load(str(request.source))
    except Exception as error:
        raise ConversionError(f"onnx cannot read the model: {_first_line(error)}") from error
    inputs = input_specs(model, named_shapes(options.inputs))
    feeds = bind_feeds(request.feeds, inputs, "calibration data")
    outputs, reference = _reference(request.source, inputs, feeds)
    index = judged_samples(len(next(iter(feeds.values()))))
    judge = _Judge(
        inputs=inputs,
        outputs=outputs,
        feeds=take_samples(feeds, index),
        reference=take_samples(reference, index),
        limit=options.max_difference,
    )
    tflite, notes = _first_good(prepared(model, inputs), judge, request.scratch)
    return Conversion(
        tflite=tflite,
        inputs=inputs,
        outputs=outputs,
        reference={k: v[:, 0] if v.ndim > 1 and v.shape[1] == 1 else v for k, v in reference.items()},
        tool=f"onnx2tf {version('onnx2tf')}",
        notes=notes + _quantized_note(model),
    )


def _first_line(error: BaseException) -> str:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text.strip()[:240]}".rstrip(": ")


def _reference(
    source: Path, inputs: tuple[TensorSpec, ...], feeds: Mapping[str, Array]
) -> tuple[tuple[TensorSpec, ...], dict[str, Array]]:
    """Return the outputs' specs and onnxruntime's values [n, *shape], one sample at a time as on the device."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        rows = [
            session.run(names, {spec.name: np.asarray(feeds[spec.name][i]) for spec in inputs})
            for i in range(len(feeds[inputs[0].name]))
        ]
    except Exception as error:
        raise ConversionError(f"onnxruntime cannot run the model: {_first_line(error)}") from error
    specs, values = [], {}
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        first = column[0]
        if not isinstance(first, np.ndarray) or str(first.dtype) not in DTYPES:
            raise ConversionError(f"output {name!r} is no tensor of a known type ({', '.join(DTYPES)})")
        if any(value.shape != first.shape for value in column):
            raise ConversionError(f"output {name!r} changes its shape from sample to sample: a device needs it fixed")
        specs.append(TensorSpec(name=name, dtype=str(first.dtype), shape=first.shape))
        values[name] = np.stack(column)
    return tuple(specs), values


def _first_good(model: Any, judge: _Judge, scratch: Path) -> tuple[bytes, tuple[str, ...]]:
    unrolls = (False, True) if recurrent_operators(model.graph) else (False,)
    said: list[str] = []
    for cleaner, unroll in itertools.product(CLEANERS, unrolls):
        road = _Road(cleaner=cleaner, unroll=unroll)
        folder = scratch / f"road-{len(said)}"
        folder.mkdir()
        try:
            tflite, worst = _judged(_drive(road, model, judge, folder), judge)
        except ConversionError as error:
            said.append(f"{road}: {error.message}")
        # SystemExit: onnx2tf ends the process on an operator it does not know.
        except (Exception, SystemExit) as error:  # noqa: BLE001 - three tools' own exceptions; the next road may work
            said.append(f"{road}: {_first_line(error)}")
        else:
            return tflite, (f"{road}: largest difference from onnxruntime {worst:.1e} of the range", *said)
    reasons = "; ".join(f"{what} ({', '.join(roads)})" for what, roads in _grouped(said).items())
    raise ConversionError(
        f"no road leads from this ONNX model to TFLite: {reasons}",
        hint="export it with another opset, or replace the operator named",
    )


def _grouped(said: list[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for line in said:
        road, _, what = line.partition(": ")
        groups.setdefault(what, []).append(road.removeprefix("onnx2tf on the graph "))
    return groups


def _drive(road: _Road, model: Any, judge: _Judge, folder: Path) -> bytes:
    """Return what onnx2tf makes of a private copy: it rewrites the file it is given."""
    import onnx
    import onnx2tf

    source = folder / "model.onnx"
    onnx.save(cleaned(model, road.cleaner), str(source))
    onnx2tf.convert(
        input_onnx_file_path=str(source),
        output_folder_path=str(folder / "out"),
        # Without this, it decides by guess whether an input should be channels-last.
        keep_shape_absolutely_input_names=[INPUT.format(i) for i in range(len(judge.inputs))],
        copy_onnx_input_output_names_to_tflite=True,
        output_signaturedefs=True,
        not_use_onnxsim=True,
        enable_rnn_unroll=road.unroll,
        non_verbose=True,
    )
    return (folder / "out" / "model_float32.tflite").read_bytes()


def _judged(data: bytes, judge: _Judge) -> tuple[bytes, float]:
    """Return the file with the source's interface and layout, and its worst difference from the reference.

    onnx2tf may leave an output channels-last. Whether it did is measured: of the layouts that give the source's
    shape, the one whose values agree is the right one.
    """
    refuse_foreign_operators(data)
    found_inputs, found_outputs = signature_entries(data)
    inputs = in_order([(INPUT.format(i), s.name) for i, s in enumerate(judge.inputs)], found_inputs, "input")
    outputs = in_order([(OUTPUT.format(i), s.name) for i, s in enumerate(judge.outputs)], found_outputs, "output")
    rows = _run(with_signature(data, inputs, outputs), judge)
    worst, ports = 0.0, []
    for spec, port, row in zip(judge.outputs, outputs, rows, strict=True):
        value = np.stack(row)
        if str(value.dtype) != spec.dtype:
            raise ConversionError(f"output {spec.name!r} became {value.dtype}, the source gives {spec.dtype}")
        distance, order = _best_layout(spec, judge.reference[spec.name], value)
        if not distance <= judge.limit:
            raise ConversionError(
                f"output {spec.name!r} differs from onnxruntime by {distance:.2g} of its range "
                f"(at most {judge.limit:g})"
            )
        worst = max(worst, distance)
        ports.append(Port(name=spec.name, tensor=port.tensor, permutation=order))
    return with_signature(data, inputs, ports), worst


def _run(data: bytes, judge: _Judge) -> list[list[Array]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=2)
    interpreter.allocate_tensors()
    check_interface(interpreter, judge.inputs)
    return run_graph(interpreter, judge.feeds, judge.inputs)


def _layouts(rank: int) -> Iterator[tuple[int, ...]]:
    """Yield the permutations an output may need: none, or channels from last to second."""
    yield ()
    if rank > 2:
        yield (0, rank - 1, *range(1, rank - 1))


def _best_layout(spec: TensorSpec, reference: Array, value: Array) -> tuple[float, tuple[int, ...]]:
    candidates = []
    for order in _layouts(value.ndim - 1):
        turned = value.transpose(0, *(axis + 1 for axis in order)) if order else value
        if turned.shape == reference.shape:
            candidates.append((difference(reference, turned), order))
    if not candidates:
        raise ConversionError(
            f"output {spec.name!r} became {list(value.shape[1:])}, the source gives {list(spec.shape)}"
        )
    return min(candidates)


def _quantized_note(model: Any) -> tuple[str, ...]:
    count = sum(node.op_type in ("QuantizeLinear", "QLinearConv", "QLinearMatMul") for node in model.graph.node)
    return (f"the source is already quantized ({count} quantizing operators)",) if count else ()
