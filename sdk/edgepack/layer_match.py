"""Which layer of a quantized model is which of the float model it was made from.

Quantizers rename tensors, put QUANTIZE and DEQUANTIZE between layers, and one of them gives a tensor's old name to
another one. So the graph decides: an operator is its float twin's when it is of the same kind and reads the same
values. A name decides only where the graph does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgepack.errors import SourceModelError
from edgepack.flatbuffer import ModelView, OperatorView, Signature, SubgraphView
from edgepack.schemes import scheme_of_view

__all__ = ["TRANSPARENT", "LayerPair", "Matching", "constants_of", "match_layers"]

# What changes a tensor's type and means the same values.
TRANSPARENT = ("QUANTIZE", "DEQUANTIZE")
_UNPACKING = ("DEQUANTIZE", "DENSIFY")
_FLOAT_SCHEMES = ("float32", "float16")
# One kind of operator under two names: a quantizer writes the second where the constant got a scale.
_KINDS = {"PADV2": "PAD"}
_SUFFIXES = ("_dequant", "_quantized", "_requantized", "_int8")
_STATEFUL = frozenset({"ASSIGN_VARIABLE", "CALL_ONCE", "READ_VARIABLE", "VAR_HANDLE"})
_MOST_UNMATCHED = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPair:
    """One output of one operator of the quantized model, and the float model's tensor of the same values.

    `operator` and `output` are indices into the quantized graph, `reference` into the float graph's tensors; `twin`
    is the float operator of the same kind that computes `reference` from the same values, -1 where there is none.
    """

    operator: int
    kind: str
    name: str
    output: int
    reference: int
    twin: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """How the two models lie on each other; `values` gives the float tensor of each quantized tensor, by index.

    `inputs` and `outputs` are (name, float tensor, quantized tensor) in the float model's order; `unmatched` counts
    the computing operators that have no partner.
    """

    layers: tuple[LayerPair, ...]
    values: dict[int, int]
    inputs: tuple[tuple[str, int, int], ...]
    outputs: tuple[tuple[str, int, int], ...]
    unmatched: int


def match_layers(float_model: ModelView, quantized: ModelView) -> Matching:
    """Return the quantized model's layers in graph order, each with its float tensor.

    Raises:
        SourceModelError: one of the models cannot be looked into (several graphs, state between runs), the float one
            is quantized, the other one is not, or they do not belong together.
    """
    for model, what in ((float_model, "float"), (quantized, "quantized")):
        _refuse_others(model, what)
    if (scheme := scheme_of_view(float_model)) not in _FLOAT_SCHEMES:
        raise SourceModelError(
            f"the float model is quantized already ({scheme}): nothing right to compare with",
            hint="name the float model first, then the one that was quantized from it",
        )
    if scheme_of_view(quantized) == "float32" and not any(t.is_quantized for t in quantized.subgraphs[0].tensors):
        raise SourceModelError(
            "the quantized model has no quantized tensor: there is nothing to explain",
            hint="name the float model first, then the one that was quantized from it",
        )
    inputs = _interface(float_model, quantized, "input")
    outputs = _interface(float_model, quantized, "output")
    matching = _Matcher(float_model.subgraphs[0], quantized.subgraphs[0], inputs, outputs).run()
    computing = len({pair.operator for pair in matching.layers}) + matching.unmatched
    if matching.unmatched > _MOST_UNMATCHED * computing:
        raise SourceModelError(
            f"the models do not belong together: {matching.unmatched} of the {computing} layers of the quantized "
            "model are not found in the float model",
            hint="name the float model that the quantized one was made from",
        )
    return matching


def _refuse_others(model: ModelView, what: str) -> None:
    if len(model.subgraphs) > 1:
        raise SourceModelError(
            f"the {what} model has {len(model.subgraphs)} graphs (control flow): layers are told apart in one only"
        )
    if len(model.signatures) > 1:
        raise SourceModelError(f"the {what} model has {len(model.signatures)} signatures; one is wanted")
    graph = model.subgraphs[0]
    if any(t.variable for t in graph.tensors) or any(o.name in _STATEFUL for o in graph.operators):
        raise SourceModelError(
            f"the {what} model keeps state between runs: a layer's error would depend on all samples before"
        )


def _interface(float_model: ModelView, quantized: ModelView, what: str) -> tuple[tuple[str, int, int], ...]:
    """Return (name, float tensor, quantized tensor) of the inputs or outputs: by name, or by position without names.

    Raises:
        SourceModelError: they are not the same.
    """
    ours, theirs = _named(float_model, what), _named(quantized, what)
    by_name = {name for name, _ in ours} == {name for name, _ in theirs}
    if not by_name and float_model.signatures and quantized.signatures and len(ours) > 1:
        raise SourceModelError(
            f"the models do not belong together: the float model's {what}s are {sorted(n for n, _ in ours)}, the "
            f"quantized model's {sorted(n for n, _ in theirs)}"
        )
    if len(ours) != len(theirs):
        raise SourceModelError(
            f"the models do not belong together: the float model has {len(ours)} {what}s, the quantized {len(theirs)}"
        )
    partners = dict(theirs) if by_name else {name: other for (name, _), (_, other) in zip(ours, theirs, strict=True)}
    found = []
    for name, index in ours:
        mine, other = float_model.subgraphs[0].tensors[index], quantized.subgraphs[0].tensors[partners[name]]
        if mine.shape != other.shape:
            raise SourceModelError(
                f"the models do not belong together: {what} {name!r} is {list(mine.shape)} in the float model, "
                f"{list(other.shape)} in the quantized one"
            )
        found.append((name, index, partners[name]))
    return tuple(found)


def _named(model: ModelView, what: str) -> list[tuple[str, int]]:
    if model.signatures:
        signature: Signature = model.signatures[0]
        return list(signature.inputs if what == "input" else signature.outputs)
    graph = model.subgraphs[0]
    return [(graph.tensors[i].name, i) for i in (graph.inputs if what == "input" else graph.outputs)]


def constants_of(graph: SubgraphView) -> dict[int, int]:
    """Return the tensors that never change: index -> the tensor whose content the file holds, -1 if computed."""
    found = {i: i for i, tensor in enumerate(graph.tensors) if tensor.is_constant}
    for operator in graph.operators:
        if all(i < 0 or i in found for i in operator.inputs):
            source = found[operator.inputs[0]] if operator.name in _UNPACKING and operator.inputs else -1
            found.update(dict.fromkeys(operator.outputs, source))
    return found


class _Matcher:
    """One walk over the quantized graph in its order."""

    def __init__(
        self,
        ours: SubgraphView,
        theirs: SubgraphView,
        inputs: tuple[tuple[str, int, int], ...],
        outputs: tuple[tuple[str, int, int], ...],
    ) -> None:
        self.ours, self.theirs = ours, theirs
        self.inputs, self.outputs = inputs, outputs
        self.values = {quantized: reference for _, reference, quantized in inputs}
        self.our_constants, self.their_constants = constants_of(ours), constants_of(theirs)
        self.free = {i for i, o in enumerate(ours.operators) if not self._is_folded(o, self.our_constants)}
        computed = {i for n in self.free for i in ours.operators[n].outputs}
        self.by_name = {ours.tensors[i].name: i for i in computed}

    def run(self) -> Matching:
        layers, unmatched = [], 0
        for index, operator in enumerate(self.theirs.operators):
            if self._is_folded(operator, self.their_constants):
                continue
            if operator.name in TRANSPARENT and operator.inputs[0] in self.values:
                self.values[operator.outputs[0]] = self.values[operator.inputs[0]]
                if operator.name == "QUANTIZE":
                    layers.append(self._pair(index, operator, 0, -1))
                continue
            twin = self._twin(operator)
            if twin is not None:
                self.free.discard(twin)
                pairs = zip(operator.outputs, self.ours.operators[twin].outputs, strict=True)
                self.values.update(pairs)
            else:
                self.values.update(self._named_alike(operator))
            known = [k for k, i in enumerate(operator.outputs) if i in self.values]
            layers += [self._pair(index, operator, k, -1 if twin is None else twin) for k in known]
            unmatched += not known and operator.name not in TRANSPARENT
        return Matching(
            layers=tuple(layers),
            values=self.values,
            inputs=self.inputs,
            outputs=self.outputs,
            unmatched=unmatched,
        )

    @staticmethod
    def _is_folded(operator: OperatorView, constants: dict[int, int]) -> bool:
        return all(i in constants for i in operator.outputs)

    def _pair(self, index: int, operator: OperatorView, output: int, twin: int) -> LayerPair:
        tensor = operator.outputs[output]
        reference = self.values[tensor]
        return LayerPair(
            operator=index,
            kind=operator.name,
            name=self.ours.tensors[reference].name or f"tensor {reference}",
            output=tensor,
            reference=reference,
            twin=twin,
        )

    def _twin(self, operator: OperatorView) -> int | None:
        """Return the float operator that computes the same from the same values; the first of equal ones."""
        found = [i for i in sorted(self.free) if self._alike(self.ours.operators[i], operator)]
        names = {self._plain(self.theirs.tensors[i].name) for i in operator.outputs}
        named = [i for i in found if {self.ours.tensors[k].name for k in self.ours.operators[i].outputs} & names]
        return next(iter([*named, *found]), None)

    def _alike(self, ours: OperatorView, theirs: OperatorView) -> bool:
        if _KINDS.get(ours.name, ours.name) != _KINDS.get(theirs.name, theirs.name):
            return False
        if ours.custom_code != theirs.custom_code or len(ours.outputs) != len(theirs.outputs):
            return False
        shapes = zip(ours.outputs, theirs.outputs, strict=True)
        if any(self.ours.tensors[a].shape != self.theirs.tensors[b].shape for a, b in shapes):
            return False
        mine = [i for i in ours.inputs if i >= 0 and i not in self.our_constants]
        other = [i for i in theirs.inputs if i >= 0 and i not in self.their_constants]
        return mine == [self.values.get(i) for i in other]

    def _named_alike(self, operator: OperatorView) -> Iterator[tuple[int, int]]:
        for index in operator.outputs:
            tensor = self.theirs.tensors[index]
            reference = self.by_name.get(tensor.name, self.by_name.get(self._plain(tensor.name)))
            if reference is not None and self.ours.tensors[reference].shape == tensor.shape:
                yield index, reference

    @staticmethod
    def _plain(name: str) -> str:
        for suffix in _SUFFIXES:
            name = name.removesuffix(suffix)
        return name
