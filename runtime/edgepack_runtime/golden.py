"""Golden tensors: write them at build, replay them anywhere, and say whether a machine computes the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

import numpy as np

from edgepack_runtime._data import dataclass
from edgepack_runtime.errors import FormatError
from edgepack_runtime.tensors import Array, TensorSpec

__all__ = [
    "GoldenSample",
    "Replay",
    "check_golden_size",
    "compare_golden",
    "forget_golden",
    "pack_golden",
    "replay_golden",
    "unpack_golden",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenSample:
    """One run: inputs and accepted outputs by name, in the model's shapes."""

    inputs: Mapping[str, Array] = field(repr=False)
    outputs: Mapping[str, Array] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How a replay went: the largest difference as a share of its output's range, and where it was.

    Of an output that is constant over the samples it is the share of its magnitude; of one that is zero, absolute.
    """

    holds: bool
    samples: int
    error: float
    tolerance: float
    output: str


def _little_endian(spec: TensorSpec) -> np.dtype[np.generic]:
    return np.dtype(spec.dtype).newbyteorder("<")


def pack_golden(
    samples: Sequence[GoldenSample], inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> bytes:
    """Return the golden entry: raw little-endian arrays, each sample's inputs and then its outputs."""
    parts = []
    for sample in samples:
        for specs, arrays in ((inputs, sample.inputs), (outputs, sample.outputs)):
            parts += [np.ascontiguousarray(arrays[s.name], _little_endian(s)).tobytes() for s in specs]
    return b"".join(parts)


def check_golden_size(size: int, count: int, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
    """Refuse a golden entry by its length alone.

    Raises:
        FormatError: it is not exactly what `count` samples of these specs take, or they have no output.
    """
    specs = (*inputs, *outputs)
    # numpy's product would wrap around on lengths that lie.
    sizes = [math.prod(s.shape) * np.dtype(s.dtype).itemsize for s in specs]
    if not outputs or any(d < 1 for s in specs for d in s.shape) or size != count * sum(sizes):
        raise FormatError(f"golden tensors: {size} bytes are not {count} samples of {sum(sizes)} bytes")


def unpack_golden(
    data: bytes | bytearray, count: int, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> tuple[GoldenSample, ...]:
    """Return the samples of a golden entry, as arrays of their own.

    Raises:
        FormatError: its length is not exactly what `count` samples of these specs take, or they have no output.
    """
    check_golden_size(len(data), count, inputs, outputs)
    offset = 0
    samples = []
    for _ in range(count):
        columns: list[dict[str, Array]] = [{}, {}]
        for column, side in zip(columns, (inputs, outputs), strict=True):
            for spec in side:
                items = math.prod(spec.shape)
                dtype = _little_endian(spec)
                array = np.frombuffer(data, dtype, items, offset).astype(spec.dtype)
                column[spec.name] = array.reshape(spec.shape)
                offset += items * dtype.itemsize
        samples.append(GoldenSample(inputs=columns[0], outputs=columns[1]))
    return tuple(samples)


def forget_golden(samples: Sequence[GoldenSample]) -> None:
    """Overwrite the arrays of samples that were unpacked; views of them are zero from then on."""
    for sample in samples:
        for array in (*sample.inputs.values(), *sample.outputs.values()):
            array[...] = np.zeros((), array.dtype)


def replay_golden(
    run: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    samples: Sequence[GoldenSample],
    tolerance: float,
) -> Replay:
    """Return how far `run` is from the golden outputs, over all samples and outputs.

    Raises:
        EdgepackError: `run` refused an input or failed.
    """
    results = [run(sample.inputs) for sample in samples]
    found = {name: np.stack([result[name] for result in results]) for name in samples[0].outputs}
    return compare_golden(found, samples, tolerance)


def compare_golden(found: Mapping[str, Array], samples: Sequence[GoldenSample], tolerance: float) -> Replay:
    """Return how far outputs that were computed elsewhere, [n, ...] by name, are from the golden ones."""
    worst, where = 0.0, ""
    for name in samples[0].outputs:
        wanted = np.stack([sample.outputs[name] for sample in samples]).astype(np.float64)
        error = _relative_error(wanted, found[name].astype(np.float64)) if name in found else math.inf
        if not where or error > worst:
            worst, where = error, name
    return Replay(holds=worst <= tolerance, samples=len(samples), error=worst, tolerance=tolerance, output=where)


def _relative_error(wanted: Array, found: Array) -> float:
    if wanted.shape != found.shape:
        return math.inf
    infinite = ~np.isfinite(wanted)
    if not np.isfinite(found[~infinite]).all() or not np.array_equal(
        wanted[infinite], found[infinite], equal_nan=True
    ):
        return math.inf
    finite = ~infinite
    if not finite.any():
        return 0.0
    error = float(np.abs(wanted[finite] - found[finite]).max())
    # One sample of a scalar has no range; an absolute limit would be any share of it, from nothing to everything.
    spread = float(wanted[finite].max() - wanted[finite].min()) or float(np.abs(wanted[finite]).max())
    return error / spread if spread > 0 else error
