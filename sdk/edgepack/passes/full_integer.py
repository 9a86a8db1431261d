"""Int8 weights and int8 activations: the smallest and, where there is no fast float unit, the fastest form.

::

    x(f32) -> CONV_2D(f32) -> y(f32)   =>   x(f32) -> QUANTIZE -> CONV_2D(int8) -> DEQUANTIZE -> y(f32)

Ranges of activations come from the calibration samples: the smallest and largest value each tensor takes. Operators
that have no int8 kernel, or that ai-edge-quantizer does not know, stay float between DEQUANTIZE and QUANTIZE, and
the notes name them.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.model import PassRequest, PassResult
from edgepack.passes._quantizer import read_options
from edgepack.passes._static import Sampling, in_integers
from edgepack.passes._values import INTERFACE, check_choice, check_operators

__all__ = ["SCHEME", "Options", "run"]

SCHEME = "full_integer"
_IO = ("float32", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What can be chosen.

    `io` is the type of inputs and outputs; at most `samples` samples calibrate, of which the share `outliers` may
    lie outside a tensor's range where they alone would stretch it; operators named in `keep_float` stay float.

    Raises:
        PassError: a value is not allowed.
    """

    io: str = "float32"
    samples: int = 200
    outliers: float = 0.05
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("io", self.io, _IO)
        Sampling(samples=self.samples, outliers=self.outliers)
        check_operators("keep_float", self.keep_float)


def run(request: PassRequest) -> PassResult:
    """Return the model computing in int8.

    Raises:
        PassError: an option is wrong, calibration data is missing or does not fit, the model is quantized already, or
            nothing could be quantized.
        SourceModelError: the bytes are no TFLite model.
    """
    options = read_options(Options, request.options)
    kept = (*options.keep_float, *(INTERFACE if options.io == "float32" else ()))
    return in_integers(
        request, SCHEME, sampling=Sampling(samples=options.samples, outliers=options.outliers), kept=kept
    )
