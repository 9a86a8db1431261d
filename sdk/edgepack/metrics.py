"""The metrics by name, and what each needs: no arrays here, only what is known of a metric before anything runs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgepack.errors import RecipeError

__all__ = ["METRICS", "Metric", "metric_named"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is known of a metric.

    `kind` is what it reads: ``classes`` (one decision a sample, or a position), ``ranking`` (scores, and which
    classes are right), ``boxes`` (what a detector finds, and what is there), ``signal`` (values, and what they should
    be), ``agreement`` (the float source's decisions alone) or ``own`` (whatever a function of the user's does).
    `count` is the k of top-k. `share` is whether it is from 0 to 1, so that a budget above 1 makes no sense.
    `per_sample` is whether it is the mean of one value a sample; else it is worked out from all samples at once.
    """

    name: str
    kind: str
    higher_is_better: bool = True
    per_sample: bool = True
    share: bool = True
    count: int = 1


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="accuracy", kind="classes"),
        Metric(name="top5", kind="classes", count=5),
        Metric(name="f1", kind="classes", per_sample=False),
        Metric(name="precision", kind="classes", per_sample=False),
        Metric(name="recall", kind="classes", per_sample=False),
        Metric(name="auc", kind="ranking", per_sample=False),
        Metric(name="map", kind="boxes", per_sample=False),
        Metric(name="map50", kind="boxes", per_sample=False),
        Metric(name="agreement", kind="agreement"),
        Metric(name="cosine", kind="signal"),
        Metric(name="mse", kind="signal", higher_is_better=False, share=False),
        Metric(name="snr", kind="signal", share=False),
        Metric(name="si-sdr", kind="signal", share=False),
    )
}
_TOP = re.compile(r"top([1-9][0-9]{0,3})")


def metric_named(name: str) -> Metric:
    """Return the metric of that name; ``top3`` is top-k for that k.

    Raises:
        RecipeError: it is not known; the message names the nearest one.
    """
    if match := _TOP.fullmatch(name):
        return replace(METRICS["top5"], name=name, count=int(match[1]))
    if name in METRICS:
        return METRICS[name]
    near = difflib.get_close_matches(name, METRICS, n=1)
    raise RecipeError(
        f"metric {name!r} is not known" + (f" (did you mean {near[0]!r}?)" if near else ""),
        hint=f"known are {', '.join(METRICS)} (any number for 5), and --metric FILE.py:FUNCTION",
    )
