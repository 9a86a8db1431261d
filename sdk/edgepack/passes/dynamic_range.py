"""Int8 weights, float32 activations: a quarter of the size, no calibration, quantized on the fly where it pays.

::

    x(f32) -> FULLY_CONNECTED(w f32) -> y(f32)   =>   x(f32) -> FULLY_CONNECTED(w int8) -> y(f32)

What a kernel makes of int8 weights beside float activations differs by engine: `edgepack.passes._layouts`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgepack.errors import PassError
from edgepack.model import PassRequest, PassResult
from edgepack.passes._forms import rule_for
from edgepack.passes._layouts import DYNAMIC_LAYOUTS
from edgepack.passes._quantizer import Calibration, describe_weights, load_source, quantize, read_options, tool
from edgepack.passes._values import check_least, check_operators

__all__ = ["SCHEME", "Options", "run"]

SCHEME = "dynamic_range"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`min_elements`: smaller weight tensors stay float (TensorFlow's limit); `keep_float`: operators to leave.

    Raises:
        PassError: a value is not allowed.
    """

    min_elements: int = 1024
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_least("min_elements", self.min_elements)
        check_operators("keep_float", self.keep_float)


def run(request: PassRequest) -> PassResult:
    """Return the model with int8 weights, laid out as the request's engine computes them right.

    Raises:
        PassError: nothing could be quantized, the model is quantized already, or the engine is unknown.
        SourceModelError: the bytes are no TFLite model.
    """
    options = read_options(Options, request.options)
    engine = request.engine.partition("==")[0]
    if engine not in DYNAMIC_LAYOUTS:
        raise PassError(f"no dynamic-range layout was measured for engine {request.engine!r}",
                        hint=f"measured are {', '.join(sorted(DYNAMIC_LAYOUTS))}")  # fmt: skip
    source = load_source(request)
    rules = [
        replace(rule, min_elements=options.min_elements)
        for operator in DYNAMIC_LAYOUTS[engine]
        if operator not in options.keep_float and (rule := rule_for(operator, SCHEME, engine)) is not None
    ]
    model, kept = quantize(source, rules, Calibration(), request.engine)
    count, notes = describe_weights(model, "int8")
    if not count:
        raise PassError(
            f"no weights were quantized: {'; '.join(notes[1:])}",
            hint=f"weights of fewer than {options.min_elements} elements stay float; float16 has no such limit",
        )
    return PassResult(model=model, tool=tool("ai-edge-quantizer"), notes=(*source.notes, *kept, *notes))
