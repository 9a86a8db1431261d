"""What a candidate may weigh, how long a run of it may last, and what is said of one worse than the float model."""

from __future__ import annotations

from collections.abc import Iterator

from edgepack.lab import LabResult
from edgepack.optimize import Optimize
from edgepack.timing import Timing
from edgepack_runtime.manifest import Evidence
from edgepack_runtime.profile import DeviceProfile

__all__ = ["budget_evidence", "ratio_in_words", "worse_than_float"]

# Ratios nearer to 1 than this are the machine's, not the model's: the same file has been seen to differ by so much.
_SAME_TIME = 1.05
LATENCY, RATIO, SIZE = "latency", "latency against float", "model size"


def budget_evidence(
    model: bytes, profile: DeviceProfile, lab: LabResult, asked: Optimize, environment: str
) -> Iterator[Evidence]:
    """Yield what is known of a model's time, and of its size where that is limited.

    Milliseconds are judged only on the profile's own architecture: those of another processor say nothing of it, and
    are told with the verdict ``unknown``. The ratio to the float model's time is judged wherever it was asked for.
    """
    limits = [limit for limit in (profile.budget.latency_ms, asked.max_ms) if limit is not None]
    if limits or lab.timing is not None:
        yield _latency(profile, lab, min(limits) if limits else None, environment)
    if asked.max_ratio is not None:
        yield _ratio(lab.timing, asked.max_ratio, environment)
    if asked.max_bytes is not None:
        yield Evidence(
            check=SIZE,
            holds=len(model) <= asked.max_bytes,
            verdict="measured",
            found=f"{len(model):,} bytes",
            wanted=f"at most {asked.max_bytes:,} bytes",
            environment="static",
            value=float(len(model)),
        )


def _latency(profile: DeviceProfile, lab: LabResult, limit: float | None, environment: str) -> Evidence:
    timing = lab.timing
    if timing is None:
        middle, low, high, beside = lab.latency_ms, lab.latency_ms, lab.latency_ms, ""
    else:
        middle, low, high = timing.milliseconds, timing.low_ms, timing.high_ms
        beside = f", {ratio_in_words(timing)}"
    here = lab.machine == profile.hardware.arch
    known = limit is not None and here
    return Evidence(
        check=LATENCY,
        holds=not known or limit is None or high <= limit,
        verdict="measured" if known or limit is None else "unknown",
        found=f"{middle:.3g} ms [{low:.3g}, {high:.3g}] on this {lab.machine} machine, not the device{beside}",
        wanted="no budget" if limit is None else f"at most {limit:g} ms" + ("" if here else " on the device"),
        environment=environment,
        value=middle,
        low=low,
        high=high,
    )


def _ratio(timing: Timing | None, limit: float, environment: str) -> Evidence:
    wanted = f"at most {limit:g} times the float model's time"
    if timing is None:
        return Evidence(
            check=RATIO,
            holds=False,
            verdict="unknown",
            found="the engine does not run the float model, so there is nothing to compare with",
            wanted=wanted,
            environment=environment,
        )
    return Evidence(
        check=RATIO,
        holds=timing.ratio_high <= limit,
        verdict="measured",
        found=f"{ratio_in_words(timing)}, by turns in one process",
        wanted=wanted,
        environment=environment,
        value=timing.ratio,
        low=timing.ratio_low,
        high=timing.ratio_high,
    )


def ratio_in_words(timing: Timing) -> str:
    """Return the ratio with its interval."""
    return f"{timing.ratio:.2f} [{timing.ratio_low:.2f}, {timing.ratio_high:.2f}] times the float model's time"


def worse_than_float(
    model: bytes, reference: bytes, timing: Timing | None, scheme: str, environment: str
) -> tuple[str, ...]:
    """Return what must be said before a model is shipped that is larger or slower than the float one it replaces.

    The float model itself, with its operator versions and metadata, is some bytes larger than what was converted:
    that is no loss that anybody chose.
    """
    if scheme == "float32":
        return ()
    said = []
    if len(model) > len(reference):
        said.append(
            f"the {scheme} model has {len(model):,} bytes, more than the {len(reference):,} of the float model"
        )
    if timing is not None and timing.ratio > _SAME_TIME and timing.ratio_low > 1:
        said.append(
            f"the {scheme} model is slower than the float one: {ratio_in_words(timing)} under {environment}; "
            "--max-latency 1x allows no such model"
        )
    return tuple(said)
