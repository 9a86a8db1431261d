"""Int8 weights and int16 activations: a quarter of the size, nearly as exact as float, and slow on most processors.

::

    x(f32) -> CONV_2D(f32) -> y(f32)   =>   x(f32) -> QUANTIZE -> CONV_2D(int16, w int8) -> DEQUANTIZE -> y(f32)

As full_integer, for networks whose activations need more than 8 bits. x86 and Arm processors have reference kernels
only for it: a convolution takes tens of times as long as in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.model import PassRequest, PassResult
from edgepack.passes._quantizer import read_options
from edgepack.passes._static import Sampling, in_integers
from edgepack.passes._values import INTERFACE, check_operators

__all__ = ["SCHEME", "Options", "run"]

SCHEME = "int16x8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """At most `samples` samples calibrate, of which the share `outliers` may lie outside a tensor's range.

    That is where they alone would stretch it; operators named in `keep_float` stay float.

    Raises:
        PassError: a value is not allowed.
    """

    samples: int = 200
    outliers: float = 0.0
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Sampling(samples=self.samples, outliers=self.outliers)
        check_operators("keep_float", self.keep_float)


def run(request: PassRequest) -> PassResult:
    """Return the model computing in int16.

    Raises:
        PassError: an option is wrong, calibration data is missing or does not fit, the model is quantized already, or
            nothing could be quantized.
        SourceModelError: the bytes are no TFLite model.
    """
    options = read_options(Options, request.options)
    sampling = Sampling(samples=options.samples, outliers=options.outliers)
    return in_integers(request, SCHEME, sampling=sampling, kept=(*options.keep_float, *INTERFACE))
