"""Int4 weights, float32 activations: an eighth of the size, quantized on the fly.

::

    x(f32) -> FULLY_CONNECTED(w f32) -> y(f32)   =>   x(f32) -> FULLY_CONNECTED(w int4) -> y(f32)

ai-edge-litert only: tflite-runtime 2.14 takes such a file and computes something else, or crashes. Layers without an
int4 kernel are as in dynamic_range.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.model import PassRequest, PassResult
from edgepack.passes._quantizer import read_options
from edgepack.passes._values import check_block, check_weights
from edgepack.passes._weights import Form, store_weights

__all__ = ["SCHEME", "Options", "run"]

SCHEME = "dynamic_int4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`min_elements`: smaller weight tensors stay float; `keep_float`: operators to leave.

    `algorithm` chooses the scales: ``min_max``, ``mse`` or ``octav``. `block`: so many neighbours of a dense layer's
    weights share a scale, 32, 64, 128 or 256; 0 is one scale for all of a channel.

    Raises:
        PassError: a value is not allowed.
    """

    min_elements: int = 1024
    keep_float: tuple[str, ...] = ()
    algorithm: str = "min_max"
    block: int = 0

    def __post_init__(self) -> None:
        check_weights(self.min_elements, self.keep_float, self.algorithm)
        check_block(self.block)


def run(request: PassRequest) -> PassResult:
    """Return the model with int4 weights, int8 ones where there is no int4 kernel.

    Raises:
        PassError: an option is wrong, nothing could be quantized, the model is quantized already, or the engine has
            no such form.
        SourceModelError: the bytes are no TFLite model.
    """
    options = read_options(Options, request.options)
    form = Form(min_elements=options.min_elements, algorithm=options.algorithm, block=options.block)
    return store_weights(request, SCHEME, form, keep_float=options.keep_float)
