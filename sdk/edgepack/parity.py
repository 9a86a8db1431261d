"""Is the converted float model its source? Run both on the same samples, and measure how far they are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.converters._parity import allowed_error
from edgepack.errors import DatasetError, ParityError, RecipeError
from edgepack.evaluate import Parity, largest_difference, parity
from edgepack.lab import LabRequest, run_in_lab
from edgepack.model import TFLiteModel
from edgepack.worker import Workplace
from edgepack_runtime._fields import parse_json
from edgepack_runtime.manifest import Evidence
from edgepack_runtime.tensors import Array, TensorSpec

__all__ = ["PARITY_TOLERANCE", "Comparison", "constant_notes", "judge", "parity_evidence", "parity_tolerance"]

# Largest difference between the converted float model and its source framework, as a share of the output's range.
PARITY_TOLERANCE = 1e-4
_REFERENCE_ENGINE = "ai-edge-litert"
# What a recipe's max_difference may raise it to.
_LARGEST_TOLERANCE = 0.01
_HINT = (
    "this is the conversion, not quantization; if that much is known to be harmless, set max_difference in "
    "[converter] of edgepack.toml"
)
_HINT_FOR_NUMBERS = (
    "whole numbers and truth values that are made of scores turn over where two scores are equal but for rounding; "
    "let the model give the scores themselves"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is compared: the model, and the source's `reference` on `feeds`, both [n, ...] by name.

    The first `real` rows are samples; behind them stand the edge cases of these names, then all of them shaken
    (`edgepack.edgecases`). `tolerance` is a share of an output's range.
    """

    model: TFLiteModel
    feeds: Mapping[str, Array]
    reference: Mapping[str, Array]
    real: int
    cases: tuple[str, ...]
    tolerance: float


def parity_tolerance(options: str) -> float:
    """Return how far a conversion may be off: ``max_difference`` of the converter's options, else the default.

    Raises:
        RecipeError: it is told to accept more than a conversion may do.
    """
    table = parse_json(options.encode(), "converter options")
    told = table.get("max_difference") if isinstance(table, dict) else None
    tolerance = float(told) if isinstance(told, (int, float)) else PARITY_TOLERANCE
    if not 0 <= tolerance <= _LARGEST_TOLERANCE:
        raise RecipeError(
            f"max_difference {tolerance:g} is not from 0 to {_LARGEST_TOLERANCE}: that is no conversion"
        )
    return tolerance


def parity_evidence(comparison: Comparison, place: Workplace) -> tuple[Evidence, ...]:
    """Return the evidence that the converted float model computes what its source does: samples, then edge cases.

    Raises:
        ParityError: an output differs by more than is allowed.
        DatasetError: the outputs have other shapes than the source's, or the source gives no numbers on a sample.
        EngineError: the engine cannot run the model.
        WorkerError: it crashed or hung.
    """
    request = LabRequest(model=comparison.model.data, engine=_REFERENCE_ENGINE, num_threads=2, feeds=comparison.feeds)
    result = run_in_lab(request, place)
    return judge(comparison, result.outputs, f"{_REFERENCE_ENGINE} {result.engine_version} on {result.machine}")


def judge(comparison: Comparison, outputs: Mapping[str, Array], where: str) -> tuple[Evidence, ...]:
    """Return the evidence on `outputs`, what the converted model gave, [n, ...] by name; `where` says what ran it.

    Raises:
        ParityError: an output differs by more than is allowed.
        DatasetError: the outputs have other shapes than the source's, or the source gives no numbers on a sample.
    """
    real, evidence, edges = comparison.real, [], []
    for spec in comparison.model.outputs:
        reference, found = comparison.reference[spec.name], outputs[spec.name]
        _refuse_no_numbers(spec, reference[:real], found[:real])
        measured = parity(spec.name, reference[:real], found[:real])
        evidence.append(_judged(spec, measured, comparison, where))
        if comparison.cases:
            edges.append(_judged_edges(spec, (reference, found), comparison, where))
    return (*evidence, *edges)


def constant_notes(comparison: Comparison) -> tuple[str, ...]:
    """Return what to say of outputs on which the samples show nothing: the source gives the same on all of them."""
    told = []
    for spec in comparison.model.outputs:
        rows = comparison.reference[spec.name][: comparison.real + len(comparison.cases)]
        if len(rows) > 1 and rows.size and np.array_equal(rows, np.broadcast_to(rows[0], rows.shape)):
            told.append(
                f"output {spec.name!r} of the source is the same on all {len(rows)} samples and edge cases: "
                "nothing is shown of what it depends on"
            )
    return tuple(told)


def _refuse_no_numbers(spec: TensorSpec, reference: Array, found: Array) -> None:
    if np.dtype(spec.dtype).kind != "f":
        return
    in_source, in_found = (
        int((~np.isfinite(array)).reshape(len(array), -1).any(axis=1).sum()) for array in (reference, found)
    )
    if in_source:
        raise DatasetError(
            f"output {spec.name!r} of the source itself is NaN or infinity on {in_source} of {len(reference)} "
            "samples: nothing can be compared",
            hint="give samples as the model is used with, scaled as in its training",
        )
    if in_found:
        raise ParityError(
            f"the converted model is not the source: output {spec.name!r} is NaN or infinity on {in_found} of "
            f"{len(found)} samples, the source's is a number"
        )


def _judged(spec: TensorSpec, measured: Parity, comparison: Comparison, where: str) -> Evidence:
    allowed = allowed_error(spec, measured.range, comparison.tolerance)
    if not measured.max_error <= allowed:
        raise ParityError(
            f"the converted model is not the source: output {spec.name!r} differs by {measured.max_error:.3g}, "
            f"{measured.relative_error:.2%} of its range, {_wanted(spec, comparison.tolerance)} is accepted",
            hint=_hint(spec),
        )
    agreement = "" if measured.agreement is None else f", same decision on {measured.agreement:.2%}"
    return Evidence(
        check=f"conversion: {spec.name}",
        holds=True,
        verdict="measured",
        found=f"largest difference {measured.max_error:.2g}, {measured.relative_error:.2g} of the range, "
        f"cosine {measured.cosine:.8f}{agreement}, on {comparison.real} samples before quantization",
        wanted=_wanted(spec, comparison.tolerance),
        environment=where,
        value=measured.relative_error,
    )


def _hint(spec: TensorSpec) -> str:
    return _HINT if np.dtype(spec.dtype).kind == "f" else _HINT_FOR_NUMBERS


def _wanted(spec: TensorSpec, tolerance: float) -> str:
    share = allowed_error(spec, 1.0, tolerance)
    return f"at most {share:g} of the range" if share else "no difference"


def _judged_edges(spec: TensorSpec, rows: tuple[Array, Array], comparison: Comparison, where: str) -> Evidence:
    """Return the evidence on the edge cases, each with its own range: that of all samples and itself.

    Where the source itself moves by more than is allowed when its input is merely rounded otherwise, a difference
    says nothing.
    """
    reference, found = rows
    real, count = comparison.real, len(comparison.cases)
    unstable, worst, largest = [], 0.0, 0.0
    for i, case in enumerate(comparison.cases):
        source, shaken = reference[real + i], reference[real + count + i]
        error, moved = _largest(source, found[real + i]), _largest(source, shaken)
        scale = _range(np.concatenate([reference[:real].ravel(), source.ravel()]))
        allowed = allowed_error(spec, scale, comparison.tolerance)
        if error <= allowed:
            worst, largest = max(worst, error / scale), max(largest, error)
        elif moved > allowed and (error < np.inf or moved == np.inf):
            unstable.append(case)
        else:
            raise ParityError(
                f"the converted model is not the source: on the edge case {case!r} output {spec.name!r} differs by "
                f"{error:.3g}, {error / scale:.2%} of its range, {_wanted(spec, comparison.tolerance)} is accepted",
                hint=_hint(spec),
            )
    aside = "" if not unstable else f"; the source itself is unstable on {', '.join(unstable)}: not judged"
    return Evidence(
        check=f"conversion, edge cases: {spec.name}",
        holds=True,
        verdict="measured",
        found=f"largest difference {largest:.2g}, {worst:.2g} of the range, on {count - len(unstable)} made-up "
        f"samples before quantization{aside}",
        wanted=_wanted(spec, comparison.tolerance),
        environment=where,
        value=worst,
    )


def _largest(reference: Array, found: Array) -> float:
    """Return the largest absolute difference; infinity where one of them has NaN or infinity and not the other."""
    finite = np.isfinite(reference)
    same = np.array_equal(reference[~finite], found[~finite], equal_nan=reference.dtype.kind == "f")
    if not same or not np.isfinite(found[finite]).all():
        return float("inf")
    return largest_difference(reference[finite], found[finite])


def _range(values: Array) -> float:
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return 1.0
    return float(np.ptp(finite)) or float(np.abs(finite).max()) or 1.0
