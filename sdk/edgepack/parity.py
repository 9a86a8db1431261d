"""Is the converted float model its source? Run both on the same samples, and measure how far they are apart."""

from __future__ import annotations

from edgepack.candidate import Samples
from edgepack.errors import ConversionError, RecipeError
from edgepack.evaluate import compare
from edgepack.lab import LabRequest, run_in_lab
from edgepack.model import TFLiteModel
from edgepack.worker import Workplace
from edgepack_runtime._fields import parse_json
from edgepack_runtime.manifest import Evidence

__all__ = ["PARITY_TOLERANCE", "parity_evidence", "parity_tolerance"]

# Largest difference between the converted float model and its source framework, as a share of the output's range.
PARITY_TOLERANCE = 1e-4
_REFERENCE_ENGINE = "ai-edge-litert"
# What a recipe's max_difference may raise it to.
_LARGEST_TOLERANCE = 0.01


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


def parity_evidence(model: TFLiteModel, samples: Samples, tolerance: float, place: Workplace) -> tuple[Evidence, ...]:
    """Return the evidence that the converted float model computes what its source does, an item an output.

    Raises:
        ConversionError: an output differs by more than `tolerance`.
        EngineError: the engine cannot run the model.
        WorkerError: it crashed or hung.
    """
    request = LabRequest(model=model.data, engine=_REFERENCE_ENGINE, num_threads=2, feeds=samples.feeds)
    result = run_in_lab(request, place)
    evidence = []
    for parity in compare(samples.reference, result.outputs):
        if not parity.relative_error <= tolerance:
            raise ConversionError(
                f"the converted model is not the source: output {parity.output!r} differs by "
                f"{parity.relative_error:.2%} of its range, at most {tolerance:.2%} is accepted",
                hint="this is the conversion, not quantization; if that much is known to be harmless, "
                "set max_difference in [converter] of edgepack.toml",
            )
        evidence.append(
            Evidence(
                check=f"conversion: {parity.output}",
                holds=True,
                verdict="measured",
                found=f"largest difference {parity.relative_error:.2g} of the range, before quantization",
                wanted=f"at most {tolerance:g}",
                environment=f"{_REFERENCE_ENGINE} {result.engine_version} on {result.machine}",
                value=parity.relative_error,
            )
        )
    return tuple(evidence)
