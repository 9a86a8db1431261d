"""How alike a candidate's outputs are to the float source's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import DatasetError
from edgepack_runtime.tensors import Array

__all__ = ["Parity", "compare", "largest_difference", "parity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """One output of a candidate against the float source's, over all samples.

    `max_error` is the largest absolute difference, `range` max - min of the source's output (its magnitude where it
    is constant), `correlation` Lin's concordance over all values (1.0 where the source's output is constant and met),
    `cosine` that of the angle between all values of the two (1.0 where both are zero), `agreement` the share of
    samples with the same decision (arg max over the last dimension; None where there is nothing to decide).
    """

    output: str
    max_error: float
    range: float
    correlation: float
    cosine: float
    agreement: float | None

    @property
    def relative_error(self) -> float:
        """`max_error` as a share of the source's range."""
        return self.max_error / self.range if self.range > 0 else self.max_error


def largest_difference(reference: Array, found: Array) -> float:
    """Return the largest absolute difference of two arrays without NaN or infinity; 0 where there is nothing in them.

    As float64, whole numbers beyond 2**53 that differ would be the same: they are subtracted as what they are.
    """
    if reference.dtype.kind in "iu" and found.dtype.kind in "iu":
        high, low = np.maximum(reference, found), np.minimum(reference, found)
        return float((high.astype(np.uint64) - low.astype(np.uint64)).max(initial=0))
    return float(np.abs(reference.astype(np.float64) - found.astype(np.float64)).max(initial=0.0))


def parity(name: str, reference: Array, candidate: Array) -> Parity:
    """Return how far `candidate` [n, ...] is from `reference` of the same shape.

    Raises:
        DatasetError: the shapes differ, so that nothing can be compared.
    """
    if reference.shape != candidate.shape:
        raise DatasetError(
            f"output {name!r}: the source gives shape {list(reference.shape)}, the candidate {list(candidate.shape)}"
        )
    a, b = reference.astype(np.float64), candidate.astype(np.float64)
    # Where either side holds NaN or infinity nothing can be said in numbers, and the worst is assumed.
    finite = bool(np.isfinite(a).all() and np.isfinite(b).all())
    error = largest_difference(reference, candidate) if finite else float("inf")
    spread = (float(a.max() - a.min()) or float(np.abs(a).max())) if finite and a.size else 0.0
    decides = reference.ndim >= 2 and reference.shape[-1] > 1 and a.size > 0
    agreement = float((a.argmax(-1) == b.argmax(-1)).mean()) if decides and finite else None
    return Parity(
        output=name,
        max_error=error,
        range=spread,
        correlation=_correlation(a, b, finite),
        cosine=_cosine(a, b) if finite else 0.0,
        agreement=agreement,
    )


def _correlation(a: Array, b: Array, finite: bool) -> float:
    """Return Lin's concordance correlation (Biometrics 45, 1989).

    Pearson's r would be 1 for outputs of the wrong scale or with a constant added, and a scale applied twice or not
    at all is just what an engine does that knows too little of quantization.
    """
    if not finite:
        return 0.0
    if not a.size:
        return 1.0
    x, y = a.ravel() - a.mean(), b.ravel() - b.mean()
    total = float(np.dot(x, x) + np.dot(y, y) + x.size * (a.mean() - b.mean()) ** 2)
    if total == 0.0 or (not x.any() and np.allclose(a, b)):
        return 1.0
    return 2 * float(np.dot(x, y)) / total


def _cosine(a: Array, b: Array) -> float:
    lengths = float(np.linalg.norm(a.ravel()) * np.linalg.norm(b.ravel()))
    if lengths == 0.0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return float(np.dot(a.ravel(), b.ravel())) / lengths


def compare(reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> tuple[Parity, ...]:
    """Return `parity` for every output, in the source's order.

    Raises:
        DatasetError: the two have outputs of other names or shapes.
    """
    if reference.keys() != candidate.keys():
        raise DatasetError(f"the source's outputs are {sorted(reference)}, the candidate's {sorted(candidate)}")
    return tuple(parity(name, value, candidate[name]) for name, value in reference.items())
