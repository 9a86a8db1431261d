"""What the passes share that store weights in fewer bits and keep activations float."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgepack.engine_ops import parse_engine
from edgepack.errors import PassError
from edgepack.flatbuffer import read_model
from edgepack.model import PassRequest, PassResult
from edgepack.opversions import release
from edgepack.passes._forms import BLOCKS_SINCE, COMPANIONS, WEIGHT_BITS, Rule, rule_for
from edgepack.passes._quantizer import Calibration, Source, describe_weights, load_source, quantize, tool
from edgepack.schemes import scheme_of_weight, weights

__all__ = ["Form", "store_weights"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Weights of fewer than `min_elements` stay float, `algorithm` chooses the scales.

    Of dense layers, `block` neighbours share a scale where it is not 0 and their inputs can be divided so.
    """

    min_elements: int
    algorithm: str
    block: int = 0


def store_weights(request: PassRequest, scheme: str, form: Form, *, keep_float: tuple[str, ...]) -> PassResult:
    """Return the model with each layer's weights in the scheme's form, or in its companion's where it has none.

    Raises:
        PassError: the engine has no such form, no layer can be divided into blocks, nothing could be quantized, or
            the model is quantized already.
        SourceModelError: the bytes are no TFLite model.
    """
    source = load_source(request)
    used = sorted({operator.name for _, operator in source.view.operators()} - {*keep_float})
    if not any(rule_for(operator, scheme, request.engine) for operator in used):
        raise PassError(
            f"{request.engine} has no {scheme} kernel for any layer of this model",
            hint=f"try {COMPANIONS.get(scheme, 'dynamic_range')}, or another engine",
        )
    forms = [rule_for(operator, COMPANIONS.get(scheme, scheme), request.engine) for operator in used]
    forms += [rule_for(operator, scheme, request.engine) for operator in used]
    rules = [rule for rule in forms if rule is not None]
    if form.block and "FULLY_CONNECTED" in used:
        rules.append(_in_blocks(source, form, request.engine))
    rules = [replace(rule, min_elements=form.min_elements, algorithm=form.algorithm) for rule in rules]
    model, kept = quantize(source, rules, Calibration(), request.engine)
    found = [scheme_of_weight(weight) for weight in weights(read_model(model))]
    _, notes = describe_weights(model, f"int{WEIGHT_BITS[scheme]}")
    if scheme not in found:
        raise PassError(
            f"no weights became {scheme}: {'; '.join(notes[1:])}",
            hint=f"weights of fewer than {form.min_elements} elements stay float",
        )
    blocks = sum(weight.stored.blockwise for weight in weights(read_model(model)))
    told = (f"one scale for {form.block} weights in {blocks} dense layers",) if form.block else ()
    return PassResult(model=model, tool=tool("ai-edge-quantizer"), notes=(*source.notes, *kept, *told, *notes))


def _in_blocks(source: Source, form: Form, engine: str) -> Rule:
    """Return the rule for the dense layers whose inputs can be divided.

    Raises:
        PassError: the engine computes none, or there is no such layer.
    """
    _, version = parse_engine(engine)
    if release(version) < release(BLOCKS_SINCE):
        raise PassError(
            f"{engine} computes weights in blocks wrongly, or crashes",
            hint=f"ai-edge-litert {BLOCKS_SINCE} or newer, or block = 0: one scale for each channel",
        )
    graph = source.view.subgraphs[0]
    dense = [w for w in weights(source.view) if w.operator == "FULLY_CONNECTED"]
    fit = [w for w in dense if w.tensor.shape[-1] % form.block == 0 and w.layer]
    if not fit:
        raise PassError(
            f"no dense layer's inputs can be divided into blocks of {form.block}: "
            f"they are {', '.join(sorted({str(w.tensor.shape[-1]) for w in dense})) or 'none with constant weights'}",
            hint="a smaller block, or block = 0: one scale for each channel",
        )
    places = {w.position for w in fit}
    names = tuple(tuple(graph.tensors[i].name for i in graph.operators[place].outputs) for place in sorted(places))
    return Rule(operator="FULLY_CONNECTED", layers=names, weights=f"BLOCKWISE_{form.block}", bits=4)
