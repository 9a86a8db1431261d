"""What every ONNX road is judged by: onnxruntime's outputs on the samples, and TFLite's beside them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepack._flatbuffer_edit import share_constants
from edgepack.converters._edges import NOWHERE
from edgepack.converters._interface import (
    check_inputs,
    fitted_ports,
    in_order,
    refuse_foreign_operators,
    signature_entries,
    with_signature,
)
from edgepack.converters._onnx_advice import refuse_unknown
from edgepack.converters._onnx_batch import notes_on_the_batch
from edgepack.converters._onnx_classes import WAY_OUT, plain_classes
from edgepack.converters._onnx_disputed import refuse_disputed
from edgepack.converters._onnx_engine import engine_rows
from edgepack.converters._onnx_graph import INPUT, OUTPUT, input_specs
from edgepack.converters._onnx_raise import confirm, raised_for_onnxruntime, raised_note
from edgepack.converters._options import check_dtypes, first_line, named_shapes
from edgepack.converters._parity import allowed_error, difference, judged_samples
from edgepack.dataset import bind_feeds, take_samples
from edgepack.errors import ConversionError, ParityError
from edgepack.model import Conversion, ConversionRequest
from edgepack_runtime.tensors import DTYPES, Array, TensorSpec

__all__ = ["Attempt", "Source", "Tool", "opened", "travelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An ONNX model with its interface, and onnxruntime's `reference` on the samples `feeds`, both [n, ...].

    The last `edges` of the samples are made up, and not judged here.
    """

    model: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feeds: Mapping[str, Array]
    reference: Mapping[str, Array]
    limit: float
    edges: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One way to TFLite: from the graph `name`; `drive` gives the file, with a private folder to work in."""

    name: str
    drive: Callable[[Path], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """What converts."""

    name: str
    version: str


def opened(request: ConversionRequest, shapes: tuple[str, ...], limit: float) -> Source:
    """Return the model, and what onnxruntime computes from the samples.

    Raises:
        ConversionError: it cannot be read, a dimension is not fixed, or onnxruntime cannot run it or judge it.
        DatasetError: the samples do not fit its inputs.
        RecipeError: a shape is written in another way.
    """
    import onnx

    try:
        model = onnx.load(str(request.source))
    except Exception as error:
        raise ConversionError(f"onnx cannot read the model: {first_line(error)}") from error
    refuse_disputed(model)
    plain = plain_classes(model)
    model = plain.model if plain else model
    inputs = input_specs(model, named_shapes(shapes))
    check_dtypes(shapes, inputs)
    feeds = bind_feeds(request.feeds, inputs, "calibration data")
    raised = raised_for_onnxruntime(model)
    file = request.source if raised is model and not plain else raised.SerializeToString()
    try:
        outputs, reference = _reference(file, inputs, feeds)
    except ConversionError:
        refuse_unknown(model)
        raise
    if raised is not model:
        confirm(model, feeds, reference)
    if plain:
        plain.confirm(request.source, feeds, reference)
    return Source(
        model=raised,
        inputs=inputs,
        outputs=outputs,
        feeds=feeds,
        reference=reference,
        limit=limit,
        edges=request.edges,
        notes=(
            *notes_on_the_batch(file if isinstance(file, bytes) else str(file), feeds, reference),
            *(() if raised is model else (raised_note(model),)),
            *(plain.notes() if plain else ()),
        ),
    )


def _reference(
    source: Path | bytes, inputs: tuple[TensorSpec, ...], feeds: Mapping[str, Array]
) -> tuple[tuple[TensorSpec, ...], dict[str, Array]]:
    """Return the outputs' specs and onnxruntime's values [n, *shape], one sample at a time as on the device."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            source if isinstance(source, bytes) else str(source), settings, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        rows = [
            session.run(names, {spec.name: np.asarray(feeds[spec.name][i]) for spec in inputs})
            for i in range(len(feeds[inputs[0].name]))
        ]
    except Exception as error:
        raise ConversionError(f"onnxruntime cannot run the model: {first_line(error)}") from error
    specs, values = [], {}
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        first = column[0]
        if not isinstance(first, np.ndarray) or str(first.dtype) not in DTYPES:
            raise ConversionError(
                f"output {name!r} is no tensor of a known type ({', '.join(DTYPES)})",
                hint=WAY_OUT if not isinstance(first, np.ndarray) or first.dtype == object else None,
            )
        if any(value.shape != first.shape for value in column):
            raise ConversionError(f"output {name!r} changes its shape from sample to sample: a device needs it fixed")
        specs.append(TensorSpec(name=name, dtype=str(first.dtype), shape=first.shape))
        values[name] = np.stack(column)
    return tuple(specs), values


def travelled(source: Source, attempts: Iterable[Attempt], tool: Tool, scratch: Path) -> Conversion:
    """Return the result of the first attempt that agrees with onnxruntime; what the others said is in the notes.

    Raises:
        ConversionError: none does; the message holds what each said.
        ParityError: all that came out computes something else.
    """
    index = judged_samples(len(next(iter(source.feeds.values()))) - source.edges)
    judge = _Judge(
        inputs=source.inputs,
        outputs=source.outputs,
        feeds=take_samples(source.feeds, index),
        reference=take_samples(source.reference, index),
        limit=source.limit,
    )
    said: list[tuple[str, str]] = []
    hints: list[str] = []
    differing = 0
    for attempt in attempts:
        # The same place each time: onnx2tf reads its schema anew for every new one.
        folder = scratch / "attempt"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            tflite, worst, notes = _judged(share_constants(attempt.drive(folder)), judge, folder)
        except ConversionError as error:
            said.append((attempt.name, error.message))
            differing += isinstance(error, ParityError)
            hints += [error.hint] if error.hint else []
        # SystemExit: onnx2tf ends the process on an operator it does not know.
        except (Exception, SystemExit) as error:  # noqa: BLE001 - three tools' own exceptions; the next may work
            said.append((attempt.name, first_line(error)))
        else:
            return Conversion(
                tflite=tflite,
                inputs=source.inputs,
                outputs=source.outputs,
                reference={k: v[:, 0] if v.ndim > 1 and v.shape[1] == 1 else v for k, v in source.reference.items()},
                tool=f"{tool.name} {tool.version}",
                notes=(
                    *_told(tool, attempt.name, worst, said),
                    *notes,
                    *source.notes,
                    *_quantized_note(source.model),
                ),
            )
    reasons = "; ".join(f"{what} ({', '.join(names)})" for what, names in _grouped(said).items())
    raise (ParityError if said and differing == len(said) else ConversionError)(
        f"{tool.name} does not lead from this ONNX model to TFLite: {reasons}",
        hint=(hints or ["export it with another opset, or replace the operator named"])[0],
    )


def _told(tool: Tool, name: str, worst: float, said: list[tuple[str, str]]) -> Iterator[str]:
    yield f"{tool.name} on the graph {name}: largest difference from onnxruntime {worst:.1e} of the range"
    for other, what in said:
        yield f"{tool.name} on the graph {other}: {what}"


def _grouped(said: list[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, what in said:
        groups.setdefault(what, []).append(name)
    return groups


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """What a result is compared with: samples and onnxruntime's outputs on them, [n, ...] with the batch."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feeds: Mapping[str, Array]
    reference: Mapping[str, Array]
    limit: float


def _judged(data: bytes, judge: _Judge, folder: Path) -> tuple[bytes, float, tuple[str, ...]]:
    """Return the file with the source's interface and layout, its worst difference from the reference, and notes.

    onnx2tf may leave an output channels-last. Whether it did is measured: of the layouts that give the source's
    shape, the one whose values agree is the right one.
    """
    refuse_foreign_operators(data)
    found_inputs, found_outputs = signature_entries(data)
    wanted = [(OUTPUT.format(i), spec) for i, spec in enumerate(judge.outputs)]
    in_order([(ours, spec.name) for ours, spec in wanted], found_outputs, "output")
    inputs = fitted_ports(data, [(INPUT.format(i), spec) for i, spec in enumerate(judge.inputs)], found_inputs)
    outputs = fitted_ports(data, wanted, found_outputs)
    tried = with_signature(data, inputs, outputs)
    check_inputs(tried, judge.inputs)
    rows = engine_rows(tried, judge.feeds, folder)
    worst, ports = 0.0, []
    for spec, port, row in zip(judge.outputs, outputs, rows, strict=True):
        value = np.stack(row)
        if str(value.dtype) != spec.dtype:
            raise ConversionError(f"output {spec.name!r} became {value.dtype}, the source gives {spec.dtype}")
        distance, order = _best_layout(spec, judge.reference[spec.name], value)
        allowed = allowed_error(spec, 1.0, judge.limit)
        if not distance <= allowed:
            raise ParityError(
                f"output {spec.name!r} differs from onnxruntime by {distance:.2g} of its range "
                f"(at most {allowed:.2g})"
            )
        worst = max(worst, distance)
        ports.append(replace(port, permutation=order))
    narrowed = ", ".join(
        repr(port.name) for port in (*inputs, *ports) if port.tensor != NOWHERE and port.dtype == "int64"
    )
    return with_signature(data, inputs, ports), worst, (f"int64 computed in int32: {narrowed}",) if narrowed else ()


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
