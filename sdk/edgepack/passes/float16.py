"""Float16 constants, float32 arithmetic: half the size, next to no loss, no calibration.

::

    w(f32) -> CONV_2D   =>   w(f16) -> DEQUANTIZE -> w(f32) -> CONV_2D

This is the form TensorFlow's converter writes. Engines unpack the constants when the model is loaded (XNNPACK into
its own packed copy), so memory while running is that of float32. A convolution's bias goes with its weights, however
small it is: ai-edge-litert 1.1 to 1.3 read a float32 bias beside float16 weights as if it were float16 too (measured:
CONV_2D gives wrong numbers without a word, DEPTHWISE_CONV_2D does not load).
"""

from __future__ import annotations

from dataclasses import dataclass

from edgepack import _flatbuffer_edit as edit
from edgepack.errors import PassError
from edgepack.flatbuffer import read_model
from edgepack.model import PassRequest, PassResult
from edgepack.opversions import stamp
from edgepack.passes._halves import halve
from edgepack.passes._quantizer import check_signature, describe_weights, load_source, read_options
from edgepack.passes._values import check_least
from edgepack.schemes import scheme_of

__all__ = ["SCHEME", "Options", "run"]

SCHEME = "float16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`min_elements`: smaller constants stay float32, as the extra operator would take more than it saves.

    Raises:
        PassError: a value is not allowed.
    """

    min_elements: int = 128

    def __post_init__(self) -> None:
        check_least("min_elements", self.min_elements)


def run(request: PassRequest) -> PassResult:
    """Return the model with its float constants stored as float16.

    Raises:
        PassError: an option is wrong, the model is quantized already, or nothing is large enough to convert.
        SourceModelError: the bytes are no TFLite model.
    """
    options = read_options(Options, request.options)
    check_signature(read_model(request.model))
    if scheme_of(request.model) == SCHEME:
        return PassResult(
            model=stamp(request.model), tool="edgepack", notes=("the source's weights are float16 already",)
        )
    source = load_source(request)
    model = edit.unpack(source.data)
    notes: list[str] = []
    for graph in model.subgraphs:
        notes.extend(halve(model, graph, options.min_elements))
    data = stamp(edit.pack(model))
    count, weight_notes = describe_weights(data, "float16")
    if not count:
        raise PassError(
            f"no weights were converted: {'; '.join((*weight_notes[1:], *notes))}",
            hint=f"constants of fewer than {options.min_elements} elements stay float32",
        )
    return PassResult(model=data, tool="edgepack", notes=(*source.notes, *weight_notes, *notes))
