"""Int2 weights, float32 activations: a sixteenth of the size, for dense layers only, and hardly ever accurate.

::

    x(f32) -> FULLY_CONNECTED(w f32) -> y(f32)   =>   x(f32) -> FULLY_CONNECTED(w int2) -> y(f32)

ai-edge-litert from 2.1.2 on. Layers that are not dense are as in dynamic_range: int2 convolutions compute NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.model import PassRequest, PassResult
from edgepack.passes._quantizer import read_options
from edgepack.passes._values import check_weights
from edgepack.passes._weights import Form, store_weights

__all__ = ["SCHEME", "Options", "run"]

SCHEME = "dynamic_int2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`min_elements`: smaller weight tensors stay float; `keep_float`: operators to leave.

    `algorithm` chooses the scales: ``min_max``, ``mse`` or ``octav``.

    Raises:
        PassError: a value is not allowed.
    """

    min_elements: int = 1024
    keep_float: tuple[str, ...] = ()
    algorithm: str = "min_max"

    def __post_init__(self) -> None:
        check_weights(self.min_elements, self.keep_float, self.algorithm)


def run(request: PassRequest) -> PassResult:
    """Return the model with int2 weights in dense layers, int8 ones elsewhere.

    Raises:
        PassError: an option is wrong, nothing could be quantized, the model is quantized already, or the engine has
            no such form.
        SourceModelError: the bytes are no TFLite model.
    """
    options = read_options(Options, request.options)
    form = Form(min_elements=options.min_elements, algorithm=options.algorithm)
    return store_weights(request, SCHEME, form, keep_float=options.keep_float)
