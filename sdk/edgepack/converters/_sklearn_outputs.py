"""Which of an estimator's methods an exported graph's outputs are: measured, and written into the graph as ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.converters._sklearn_files import first_line
from edgepack.errors import ConversionError
from edgepack_runtime.tensors import DTYPES, Array

__all__ = ["INPUT", "Output", "recognised", "values_of", "with_outputs"]

INPUT = "x"
# What an output may be, the likeliest first, and what it is called then.
_METHODS = {
    "predict_proba": "probabilities",
    "decision_function": "scores",
    "predict": "prediction",
    "transform": "transformed",
    "score_samples": "scores",
}
# Outputs that nobody recognises are none of scikit-learn's.
_RECOGNISED = 0.05
_COMPARED = 64
# skl2onnx's own names where they are ours too.
_TAKEN = "skl2onnx_{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """An output of the exported graph, and scikit-learn's values for it.

    Of a class, `classes` are the graph's values for it, and the output is its place among them. Where one score has
    two columns in the graph, `column` is the one that is it.
    """

    graph_name: str
    name: str
    values: Array
    column: int | None = None
    classes: Array | None = None


def recognised(estimator: Any, model: Any, x: Array, real: int) -> tuple[tuple[Output, ...], tuple[str, ...]]:
    """Return what each output of the graph is in scikit-learn's words, measured on the first `real` rows of `x`.

    Raises:
        ConversionError: the graph cannot be run, the estimator cannot, or no output is any method's.
    """
    found = values_of(model, x[: min(_COMPARED, real)])
    methods = _methods(estimator, x)
    outputs: list[Output] = []
    notes: list[str] = []
    for name, values in found.items():
        if np.issubdtype(values.dtype, np.integer) and "predict" in methods:
            label, note = _label(estimator, name, methods["predict"], values)
            outputs += [label] if label else []
            notes += [note] if note else []
            continue
        candidates = [_candidate(name, method, told, values) for method, told in methods.items()]
        output = min((c for c in candidates if c), key=lambda item: _apart(item, values), default=None)
        if output is None or not _apart(output, values) <= _RECOGNISED:
            notes.append(f"output {name!r} of skl2onnx is left out: it is the result of no method of the estimator")
        else:
            outputs.append(output)
    if not outputs:
        raise ConversionError(
            f"skl2onnx's export computes nothing that {type(estimator).__name__} does: {'; '.join(notes)}"
        )
    names = [output.name for output in outputs]
    if len(set(names)) < len(names):
        raise ConversionError(f"skl2onnx's export gives one method's result twice: {', '.join(names)}")
    return tuple(outputs), tuple(notes)


def _label(estimator: Any, name: str, told: Array, values: Array) -> tuple[Output | None, str]:
    """Return the class as an output, or why it is left out; and a note of which class has which number."""
    classes = getattr(estimator, "classes_", None)
    if not isinstance(classes, np.ndarray) or classes.ndim != 1:
        # Clusters and outliers have no list of classes.
        classes = np.unique(np.concatenate([told.ravel(), values.ravel()])) if told.dtype.kind in "iu" else None
    if classes is None or told.ndim != 1:
        return None, f"output {name!r} of skl2onnx is left out: it is the result of no method of the estimator"
    numbers = np.arange(len(classes))
    place = np.searchsorted(classes, told).astype(np.int64)
    in_graph = classes if classes.dtype.kind in "iub" else numbers
    wrong = int((in_graph[place[: len(values)]] != values.reshape(-1)).sum())
    if wrong:
        return None, (
            f"the class is left out: skl2onnx's differs from predict() for {wrong} of {len(values)} samples, "
            "as where predict() is not the class of the largest probability"
        )
    note = ""
    if not (classes.dtype.kind in "iub" and np.array_equal(classes, numbers)):
        shown = ", ".join(f"{i} = {text}" for i, text in enumerate(classes[:50].tolist()))
        note = f"classes: {shown}{', ...' if len(classes) > 50 else ''}"
    return Output(graph_name=name, name="label", values=place, classes=in_graph.astype(np.float32)), note


def values_of(model: Any, x: Array) -> dict[str, Array]:
    """Return the exported graph's outputs [n, ...], one sample at a time as on the device.

    Raises:
        ConversionError: onnxruntime cannot run it, or an output is no tensor of numbers.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        rows = [session.run(None, {INPUT: row[None]}) for row in x]
    except Exception as error:
        raise ConversionError(f"onnxruntime cannot run skl2onnx's export: {first_line(error)}") from error
    names = [output.name for output in session.get_outputs()]
    found = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    for name, values in found.items():
        if not all(isinstance(v, np.ndarray) and str(v.dtype) in DTYPES for v in values):
            raise ConversionError(
                f"skl2onnx gives output {name!r} as no tensor of numbers",
                hint="of models with several targets, convert each on its own",
            )
    return {name: np.stack(values) for name, values in found.items()}


def _methods(estimator: Any, x: Array) -> dict[str, Array]:
    """Return what scikit-learn itself computes for all samples, by method."""
    results = {}
    for method in _METHODS:
        if hasattr(estimator, method):
            try:
                result = getattr(estimator, method)(x)
            except Exception as error:
                raise ConversionError(
                    f"scikit-learn cannot run {method}() on the samples: {type(error).__name__}: {first_line(error)}"
                ) from error
            results[method] = result.toarray() if hasattr(result, "toarray") else np.asarray(result)
    return results


def _candidate(graph_name: str, method: str, told: Array, values: Array) -> Output | None:
    """Return the output as this method's result, if its shape can be that; of two columns, one may be the score."""
    if told.dtype.kind not in "fiu":
        return None
    wanted = told[: len(values)].astype(np.float32)
    name = _METHODS[method]
    if wanted.size == values.size:
        return Output(graph_name=graph_name, name=name, values=told.astype(np.float32))
    if wanted.ndim == 1 and values.size == 2 * wanted.size:
        pairs = values.reshape(-1, 2)
        distances = np.abs(pairs - wanted[:, None]).max(axis=0)
        column = int(distances.argmin())
        return Output(graph_name=graph_name, name=name, values=told.astype(np.float32), column=column)
    return None


def _apart(output: Output, values: Array) -> float:
    """Return how far the graph's values are from the method's, as a share of their range."""
    flat = values.reshape(len(values), -1)
    flat = flat if output.column is None else flat[:, output.column : output.column + 1]
    wanted = output.values[: len(values)].reshape(flat.shape)
    if not np.isfinite(flat).all():
        return float("inf")
    return float(np.abs(flat - wanted).max()) / (float(np.ptp(wanted)) or float(np.abs(wanted).max()) or 1.0)


def with_outputs(model: Any, outputs: tuple[Output, ...]) -> Any:
    """Return the graph with these outputs under our names; cleaners drop what nothing needs any more."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    ours = {output.name for output in outputs}
    for old in graph.node:
        old.input[:] = [_TAKEN.format(name) if name in ours else name for name in old.input]
        old.output[:] = [_TAKEN.format(name) if name in ours else name for name in old.output]
    del graph.value_info[:], graph.output[:]

    def constant(name: str, value: Array) -> str:
        graph.initializer.append(numpy_helper.from_array(value, f"edgepack_{name}"))
        return f"edgepack_{name}"

    def node(operator: str, inputs: list[str], result: str, **attributes: object) -> str:
        graph.node.append(helper.make_node(operator, inputs, [result], **attributes))
        return result

    for output in outputs:
        source = _TAKEN.format(output.graph_name) if output.graph_name in ours else output.graph_name
        kind, name = TensorProto.FLOAT, output.name
        if output.classes is not None:
            # onnx2tf computes with int32 where it can, and would leave a class as one; of ArgMax it does not.
            kind = TensorProto.INT64
            column = node("Reshape", [source, constant("column", np.array([-1, 1]))], f"{name}_column")
            number = node("Cast", [column], f"{name}_number", to=TensorProto.FLOAT)
            same = node("Equal", [number, constant("classes", output.classes[None])], f"{name}_same")
            score = node("Cast", [same], f"{name}_score", to=TensorProto.FLOAT)
            node("ArgMax", [score], name, axis=1, keepdims=0)
        elif output.column is not None:
            node("Gather", [source, constant(f"{name}_at", np.array([output.column]))], name, axis=1)
        else:
            node("Identity", [source], name)
        graph.output.append(helper.make_tensor_value_info(name, kind, None))
    return model
