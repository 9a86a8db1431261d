"""What the passes share that store weights in fewer bits and keep activations float."""

from __future__ import annotations

from dataclasses import replace

from edgepack.errors import PassError
from edgepack.flatbuffer import read_model
from edgepack.model import PassRequest, PassResult
from edgepack.passes._forms import COMPANIONS, WEIGHT_BITS, rule_for
from edgepack.passes._quantizer import Calibration, describe_weights, load_source, quantize, tool
from edgepack.schemes import scheme_of_weight, weights

__all__ = ["store_weights"]


def store_weights(
    request: PassRequest, scheme: str, *, min_elements: int, keep_float: tuple[str, ...], algorithm: str
) -> PassResult:
    """Return the model with each layer's weights in the scheme's form, or in its companion's where it has none.

    Raises:
        PassError: the engine has no such form, nothing could be quantized, or the model is
            quantized already.
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
    rules = [replace(rule, min_elements=min_elements, algorithm=algorithm) for rule in forms if rule is not None]
    model, kept = quantize(source, rules, Calibration(), request.engine)
    found = [scheme_of_weight(weight) for weight in weights(read_model(model))]
    _, notes = describe_weights(model, f"int{WEIGHT_BITS[scheme]}")
    if scheme not in found:
        raise PassError(
            f"no weights became {scheme}: {'; '.join(notes[1:])}",
            hint=f"weights of fewer than {min_elements} elements stay float",
        )
    return PassResult(model=model, tool=tool("ai-edge-quantizer"), notes=(*source.notes, *kept, *notes))
