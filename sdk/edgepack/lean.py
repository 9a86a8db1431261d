"""What a device does not need of a TFLite file, left out: above all the names of inner tensors.

::

    t1 "model/conv1/Relu;model/bn1/add" -> CONV_2D -> t2 "model/conv2/Relu"   =>   t1 -> CONV_2D -> t2

An engine goes by indices, and looks up inputs, outputs and signatures by name; variables have theirs in an operator's
options. All other names are for people, take up to a third of a small file, and tell whose architecture it is.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any

from edgepack import _flatbuffer_edit as edit
from edgepack.model import PassRequest, PassResult
from edgepack_runtime.manifest import AS_IS

__all__ = ["PassCall", "lean", "run"]

# The builder holds the file twice and cannot hold 2 GiB; so large a file gains nothing by its names.
_LARGEST = 1 << 30
# Which TensorFlow converted the model; no engine reads it.
_RECORDS = (b"CONVERSION_METADATA",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassCall:
    """A pass to run by its scheme, `AS_IS` for none, and whether the model keeps the names of its tensors."""

    scheme: str
    request: PassRequest
    keep_names: bool


def run(call: PassCall) -> PassResult:
    """Return what the pass gives, without the names unless they are to be kept.

    Raises:
        PassError: the pass cannot be applied, and why.
        SourceModelError: the bytes are no TFLite model.
    """
    if call.scheme == AS_IS:
        result = PassResult(model=call.request.model, tool="edgepack", notes=())
    else:
        result = importlib.import_module(f"edgepack.passes.{call.scheme}").run(call.request)
    if call.keep_names:
        return result
    model, note = lean(result.model)
    return replace(result, model=model, notes=(*result.notes, *([note] if note else [])))


def lean(data: bytes) -> tuple[bytes, str]:
    """Return the file with what a device needs, and what was left out in words; itself and '' if nothing was.

    It computes the same: constants, operators, types, scales, signatures and all other metadata stay.

    Raises:
        SourceModelError: the bytes are no TFLite model.
    """
    if len(data) > _LARGEST:
        return data, ""
    model = edit.unpack(data)
    count = sum(_unname(graph, _looked_up(model, place)) for place, graph in enumerate(model.subgraphs))
    # The second is what metadata was before it had names.
    model.description = model.metadataBuffer = None
    model.metadata = [entry for entry in model.metadata or [] if entry.name not in _RECORDS] or None
    _drop_unused_codes(model)
    smaller = edit.pack(model)
    if len(smaller) >= len(data):
        return data, ""
    saved = len(data) - len(smaller)
    return smaller, f"names of {count} inner tensors were left out, and what else no engine reads: {saved:,} bytes"


def _looked_up(model: Any, place: int) -> set[int]:
    """Return the tensors of a graph that callers know by name."""
    entries = [
        entry
        for signature in model.signatureDefs or []
        if signature.subgraphIndex == place
        for entry in (*(signature.inputs or []), *(signature.outputs or []))
    ]
    graph = model.subgraphs[place]
    ends = () if place else (*graph.inputs, *graph.outputs)
    return {int(entry.tensorIndex) for entry in entries} | {int(i) for i in ends}


def _unname(graph: Any, kept: set[int]) -> int:
    """Leave out what of a graph's tensors and operators no engine reads; return how many names that were."""
    count = 0
    for index, tensor in enumerate(graph.tensors):
        if index not in kept and tensor.name:
            tensor.name = None
            count += 1
        if list(_listed(tensor.shapeSignature)) == list(_listed(tensor.shape)):
            tensor.shapeSignature = None
        if (found := tensor.quantization) is not None:
            found.min = found.max = None
            if not len(_listed(found.scale)) and found.details is None:
                tensor.quantization = None
    for operator in graph.operators:
        if not any(_listed(operator.mutatingVariableInputs)):
            operator.mutatingVariableInputs = None
        if not len(_listed(operator.intermediates)):
            operator.intermediates = None
    return count


def _listed(vector: Any) -> Any:
    """Return a vector, which may be an array, or nothing for one that is not there."""
    return () if vector is None else vector


def _drop_unused_codes(model: Any) -> None:
    """Remove entries of the operator table that no operator is of; an engine refuses one it does not know."""
    used = sorted({operator.opcodeIndex for graph in model.subgraphs for operator in graph.operators})
    new = {old: position for position, old in enumerate(used)}
    model.operatorCodes = [model.operatorCodes[i] for i in used]
    for operator in (o for graph in model.subgraphs for o in graph.operators):
        operator.opcodeIndex = new[operator.opcodeIndex]
