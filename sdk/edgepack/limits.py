"""Does a model keep to what a profile says of its inputs and outputs, and can its delegates be answered for."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from edgepack.fit import Finding
from edgepack_runtime.profile import DeviceProfile, InputLimits
from edgepack_runtime.tensors import TensorSpec

__all__ = ["check_limits"]


def check_limits(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], profile: DeviceProfile
) -> tuple[Finding, ...]:
    """Return a finding for each limit the profile sets on inputs and outputs, and one for delegates of its own."""
    found = [] if profile.io is None else list(_limits(inputs, outputs, profile.io))
    outside = [delegate for delegate in profile.engine.delegates if delegate.library is not None]
    if outside:
        names = ", ".join(f"{delegate.name} {delegate.version} ({delegate.library})" for delegate in outside)
        found.append(
            Finding(
                check="delegates",
                holds=True,
                verdict="unknown",
                found=f"{names} not run here: the outputs are those of the engine without",
                wanted="the device replays the golden tensors with them before it uses the model",
                remedy="",
            )
        )
    return tuple(found)


def _limits(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], io: InputLimits) -> Iterator[Finding]:
    for kind, specs, dtypes in (("input", inputs, io.input_dtypes), ("output", outputs, io.output_dtypes)):
        if dtypes:
            yield _finding(
                f"{kind} dtypes",
                [str(spec) for spec in specs if spec.dtype not in dtypes],
                ", ".join(str(spec) for spec in specs),
                f"{kind}s of {' or '.join(dtypes)}",
                "a model with such tensors: a full-integer source, or another profile",
            )
    if io.batch is not None:
        yield _finding(
            "batch",
            [str(spec) for spec in inputs if spec.shape[:1] != (io.batch,)],
            ", ".join(str(spec) for spec in inputs),
            f"a first dimension of {io.batch} in each input",
            "convert with that shape: --input NAME:DTYPE:SHAPE",
        )
    if io.max_input_bytes is not None:
        sizes = [_bytes(spec) for spec in inputs]
        total = None if None in sizes else sum(size for size in sizes if size is not None)
        told = "inputs whose size the caller chooses" if total is None else f"{total:,} bytes of inputs"
        yield _finding(
            "input bytes",
            [] if total is not None and total <= io.max_input_bytes else [told],
            told,
            f"at most {io.max_input_bytes:,} bytes",
            "smaller inputs, of fixed shapes",
        )


def _bytes(spec: TensorSpec) -> int | None:
    return None if -1 in spec.shape else math.prod(spec.shape) * np.dtype(spec.dtype).itemsize


def _finding(check: str, wrong: list[str], found: str, wanted: str, remedy: str) -> Finding:
    return Finding(
        check=check,
        holds=not wrong,
        verdict="measured",
        found=", ".join(wrong) or found,
        wanted=wanted,
        remedy=remedy if wrong else "",
    )
