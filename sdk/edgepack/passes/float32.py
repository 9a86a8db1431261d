"""Keep float32: nothing but the operator versions is put right.

A file whose weights are float16 becomes float32, because that is what the scheme says; sparse weights stay sparse.
A model that is quantized already is refused: a bundle must not say float32 of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.errors import PassError
from edgepack.flatbuffer import read_model
from edgepack.model import PassRequest, PassResult
from edgepack.opversions import stamp
from edgepack.passes._expand import expand
from edgepack.passes._quantizer import check_signature, read_options
from edgepack.schemes import scheme_of

__all__ = ["SCHEME", "Options", "run"]

SCHEME = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """There is nothing to choose."""


def run(request: PassRequest) -> PassResult:
    """Return the model with true operator versions.

    Raises:
        PassError: an option is unknown, the signature is missing, or the model is quantized already.
        SourceModelError: the bytes are no TFLite model.
    """
    read_options(Options, request.options)
    view = read_model(request.model)
    # One with several signatures, all of which are to be kept, stays what it is.
    if len(view.signatures) < 2:
        check_signature(view)
    scheme = scheme_of(request.model)
    data, notes = request.model, []
    if scheme == "float16":
        data, count = expand(data)
        notes.append(f"{count} float16 constants were expanded to float32")
    elif scheme != SCHEME:
        raise PassError(
            f"the source model is quantized already ({scheme}); that cannot be undone",
            hint="leave --precision away to ship it as it is, or give the float model it was made from",
        )
    stamped = stamp(data)
    if stamped != data:
        notes.append("operator versions and min_runtime_version were corrected")
    return PassResult(model=stamped, tool="edgepack", notes=tuple(notes))
