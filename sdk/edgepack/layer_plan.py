"""What is to be run to see where a quantized model goes wrong, found out from the two files alone.

Both files may be a stranger's and are taken apart here, so this runs in a child of the base install.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgepack import _flatbuffer_edit as edit
from edgepack.errors import SourceModelError
from edgepack.flatbuffer import ITEM_BITS, MALFORMED, ModelView, OperatorView, TensorView, read_model
from edgepack.layer_facts import LayerFacts, WeightFacts, weight_facts
from edgepack.layer_island import Islands
from edgepack.layer_match import LayerPair, Matching, constants_of, match_layers
from edgepack.layer_measure import Feed, Layer
from edgepack.layer_probe import Port, cut, exposed, port_name, real_constant, replaceable, tensor_name
from edgepack.layer_sums import LIMIT, Numbers
from edgepack.schemes import WEIGHT_INPUTS
from edgepack_runtime.tensors import Array, TensorSpec

__all__ = ["Plan", "PlanRequest", "make_plan"]

_SHOWN = ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")
_COMPARED = ("float32", "float16", "int8", "uint8", "int16")
# Kernels that round a float input themselves, because their weights are integers.
_ROUNDS_AT_RUN_TIME = {
    "FULLY_CONNECTED": "rows",
    "BATCH_MATMUL": "rows",
    "CONV_2D": "whole",
    "DEPTHWISE_CONV_2D": "whole",
}
_FLOATS = ("float32", "float16")
# Decibels below which two constants are not one and the same, rounded.
_OTHER_WEIGHTS = 3.0
# Every tensor is kept at once, and several times.
_MOST_BYTES = 512 << 20
_MOST_OPERATORS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """The float model and what was quantized from it."""

    float_model: bytes
    quantized: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `edgepack.layer_measure` is to run, and what the files say of each layer.

    `pairs`, `layers` and `facts` go together. `inputs` are the float model's, `feeds` the quantized model's in that
    order; `outputs` go with `output_names`.
    """

    models: Mapping[str, bytes]
    inputs: tuple[TensorSpec, ...]
    feeds: tuple[Feed, ...]
    pairs: tuple[LayerPair, ...]
    layers: tuple[Layer, ...]
    facts: tuple[LayerFacts, ...]
    outputs: tuple[Layer, ...]
    output_names: tuple[str, ...]
    unmatched: int


def make_plan(request: PlanRequest) -> Plan:
    """Return what to run (runs in a child of the base install).

    Raises:
        SourceModelError: a file is no TFLite model, cannot be looked into, is too large for it, or the two do not
            belong together.
    """
    try:
        with np.errstate(all="ignore"):
            return _Planner(request.float_model, request.quantized).plan()
    except MALFORMED as error:
        # What `read_model` does not look at, such as a constant's length, is found out when it is taken apart.
        raise SourceModelError(f"one of the files is damaged ({type(error).__name__}: {error})") from error


def _bounded(view: ModelView, what: str) -> ModelView:
    graph = view.subgraphs[0]
    held = sum(
        math.prod(t.shape) * ITEM_BITS.get(t.dtype, 32) // 8 for t in graph.tensors if not t.is_constant and t.shape
    )
    if held > _MOST_BYTES or len(graph.operators) > _MOST_OPERATORS:
        raise SourceModelError(
            f"the {what} model has {len(graph.operators):,} operators that compute {held:,} bytes; to look into "
            f"every layer, at most {_MOST_OPERATORS:,} and {_MOST_BYTES:,} are held"
        )
    return view


class _Planner:
    def __init__(self, float_model: bytes, quantized: bytes) -> None:
        self.float_model, self.quantized = float_model, quantized
        self.float_view = _bounded(read_model(float_model), "float")
        self.view = _bounded(read_model(quantized), "quantized")
        self.matching: Matching = match_layers(self.float_view, self.view)
        self.ours, self.theirs = self.float_view.subgraphs[0], self.view.subgraphs[0]
        self.our_constants, self.their_constants = constants_of(self.ours), constants_of(self.theirs)
        self.pairs = tuple(p for p in self.matching.layers if self.theirs.tensors[p.output].dtype in _COMPARED)
        self.alone = {p.operator for p in self.pairs if self._stands_alone(p)}
        self.twins = {p.operator: p.twin for p in self.pairs if p.twin >= 0 and p.operator in self.alone}
        self.islands = Islands(self.ours, self.our_constants)
        self.readers: dict[int, list[int]] = {}
        for number, operator in enumerate(self.theirs.operators):
            for index in set(operator.inputs):
                self.readers.setdefault(index, []).append(number)
        self.files = edit.unpack(float_model), edit.unpack(quantized)

    def plan(self) -> Plan:
        layers = tuple(self._layer(pair) for pair in self.pairs)
        outputs = tuple(self._output(reference, index) for _, reference, index in self.matching.outputs)
        references = {f.reference for layer in layers for f in layer.feeds}
        references |= {p.reference for p in self.pairs} | {o.reference for o in outputs}
        ends = [o.output for o in outputs]
        own_names = {operator: operator for operator in self.alone}
        twin_names = {twin: operator for operator, twin in self.twins.items()}
        models = {
            "float": exposed(self.float_model, references),
            "float alone": cut(self.float_model, twin_names, self.ours, {}),
            "weights alone": cut(self.float_model, twin_names, self.ours, self._constants()),
            "quantized": exposed(self.quantized, [*(p.output for p in self.pairs), *ends]),
            "replaceable": replaceable(self.float_model, self._replaced(), [o.reference for o in outputs]),
            "plain": exposed(self.quantized, ends),
            "alone": cut(self.quantized, own_names, self.theirs, {}),
        }
        return Plan(
            models=models,
            inputs=tuple(self._spec(name, reference) for name, reference, _ in self.matching.inputs),
            feeds=tuple(self._feed(tensor_name(index), index) for _, _, index in self.matching.inputs),
            pairs=self.pairs,
            layers=layers,
            facts=tuple(self._facts(pair) for pair in self.pairs),
            outputs=outputs,
            output_names=tuple(name for name, _, _ in self.matching.outputs),
            unmatched=self.matching.unmatched,
        )

    def _replaced(self) -> list[int]:
        """Return the float tensors that the layers compute; a model's input is replaced by feeding another."""
        found = sorted({p.reference for p in self.pairs} - set(self.ours.inputs))
        return [i for i in found if self.ours.tensors[i].dtype == "float32" and i not in self.our_constants]

    def _spec(self, name: str, index: int) -> TensorSpec:
        tensor = self.ours.tensors[index]
        return TensorSpec(name=name, dtype=tensor.dtype, shape=tensor.shape)

    def _stands_alone(self, pair: LayerPair) -> bool:
        """Return whether everything the operator reads has a float tensor to be fed from."""
        return all(
            self.matching.values.get(i) is not None and self.theirs.tensors[i].dtype in _SHOWN
            for _, i in self._read(self.theirs.operators[pair.operator])
        )

    def _read(self, operator: OperatorView) -> Iterator[Port]:
        yield from ((k, i) for k, i in enumerate(operator.inputs) if i >= 0 and i not in self.their_constants)

    def _layer(self, pair: LayerPair) -> Layer:
        operator = self.theirs.operators[pair.operator]
        alone = pair.operator in self.alone
        feeds = []
        for position, index in self._read(operator) if alone else ():
            feed = self._feed(port_name((pair.operator, position)), index)
            feeds.append(replace(feed, run_time=self._rounding(operator, position)))
        return Layer(
            output=pair.output,
            reference=pair.reference,
            numbers=_numbers(self.theirs.tensors[pair.output]),
            feeds=tuple(feeds),
            alone=alone,
            twin=pair.operator in self.twins,
            passes=pair.kind == "QUANTIZE",
        )

    def _rounding(self, operator: OperatorView, position: int) -> str:
        """Return how the kernel itself rounds a float input, because its weights are integers; '' if it does not."""
        weights = operator.inputs[1] if len(operator.inputs) > 1 else -1
        held = weights >= 0 and self.theirs.tensors[weights].is_constant
        if position or not held or self.theirs.tensors[operator.inputs[0]].dtype != "float32":
            return ""
        return _ROUNDS_AT_RUN_TIME.get(operator.name, "") if self.theirs.tensors[weights].is_quantized else ""

    def _feed(self, name: str, index: int) -> Feed:
        return Feed(name=name, reference=self.matching.values[index], numbers=_numbers(self.theirs.tensors[index]))

    def _output(self, reference: int, index: int) -> Layer:
        numbers = _numbers(self.theirs.tensors[index])
        return Layer(
            output=index, reference=reference, numbers=numbers, feeds=(), alone=False, twin=False, passes=False
        )

    def _constants(self) -> dict[Port, Array]:
        """Return the quantized operators' constants as real numbers, by the port of the float twin.

        Raises:
            SourceModelError: they are other weights than the float model's.
        """
        found: dict[Port, Array] = {}
        likeness = []
        for operator, twin in self.twins.items():
            pairs = zip(self.ours.operators[twin].inputs, self.theirs.operators[operator].inputs, strict=False)
            for position, (mine, other) in enumerate(pairs):
                a, b = self.our_constants.get(mine, -1), self.their_constants.get(other, -1)
                if a < 0 or b < 0 or self.ours.tensors[a].dtype not in _FLOATS:
                    continue
                wanted = real_constant(self.files[0], self.ours.tensors[a], a)
                value = real_constant(self.files[1], self.theirs.tensors[b], b)
                # A constant such as -3.4e38 stands for minus infinity: what a quantizer makes of it is no rounding.
                if value is None or wanted is None or value.shape != wanted.shape or _largest(wanted) > LIMIT / 1e8:
                    continue
                found[operator, position] = value
                if position == 1 and wanted.size > 1:
                    noise = float(((wanted - value).astype(np.float64) ** 2).sum())
                    likeness.append(_ratio(float((wanted.astype(np.float64) ** 2).sum()), noise))
        if likeness and float(np.median(likeness)) < _OTHER_WEIGHTS:
            raise SourceModelError(
                "the models do not belong together: their layers are the same, most of their weights are others",
                hint="name the float model that the quantized one was made from, after its last training",
            )
        return found

    def _facts(self, pair: LayerPair) -> LayerFacts:
        operator = self.theirs.operators[pair.operator]
        twin = self.ours.operators[pair.twin] if pair.twin >= 0 else None
        weight_ports = WEIGHT_INPUTS.get(operator.name, ())
        weights: WeightFacts | None = None
        constant = 0.0
        for position, index in enumerate(twin.inputs if twin else ()):
            a = self.our_constants.get(index, -1)
            if a < 0 or self.ours.tensors[a].dtype not in _FLOATS:
                continue
            value = real_constant(self.files[0], self.ours.tensors[a], a)
            if value is None or not value.size:
                continue
            if position not in weight_ports:
                constant = max(constant, _largest(value))
            elif weights is None:
                b = self.their_constants.get(operator.inputs[position], -1)
                weights = weight_facts(value, operator.name, self.theirs.tensors[b]) if b >= 0 else None
        return LayerFacts(
            weights=weights,
            constant=constant,
            readers=tuple(dict.fromkeys(self.theirs.operators[i].name for i in self.readers.get(pair.output, ()))),
            inputs=tuple(_numbers(self.theirs.tensors[i]) for _, i in self._read(operator)),
            sources=tuple(self.matching.values[i] for _, i in self._read(operator) if i in self.matching.values),
            magnifier=self.islands.magnifier(pair.reference),
            island=self.islands.of(pair.reference),
        )


def _largest(value: Array) -> float:
    inside = np.abs(value[np.isfinite(value)])
    return float(inside.max()) if inside.size else 0.0


def _ratio(signal: float, noise: float) -> float:
    if not math.isfinite(signal) or not math.isfinite(noise):
        return 0.0
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else 120.0


def _numbers(view: TensorView) -> Numbers:
    if len(view.scales) != 1 or view.dtype not in ("int8", "uint8", "int16", "int32"):
        return Numbers(dtype=view.dtype)
    if not math.isfinite(view.scales[0]) or view.scales[0] < 0:
        raise SourceModelError(f"tensor {view.name!r} of the quantized model has the scale {view.scales[0]}")
    return Numbers(dtype=view.dtype, scale=view.scales[0], zero_point=view.zero_points[0] if view.zero_points else 0)
