"""What a model that was trained further in the build still has in common with what it was before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgepack.evaluate import compare
from edgepack_runtime.manifest import Evidence
from edgepack_runtime.tensors import Array

__all__ = ["TRAINED_CORRELATION", "before_evidence"]

# As for weights in whole numbers: a model that was trained further, and is no longer like it was, needs labels to
# show that it is as good.
TRAINED_CORRELATION = 0.97


def before_evidence(
    before: Mapping[str, Array], outputs: Mapping[str, Array], judged: frozenset[str], environment: str
) -> Iterator[Evidence]:
    """Yield how far each output is from the one before the training.

    Args:
        before: the outputs of the model as it came, or of its teacher, [n, ...] by name.
        outputs: the candidate's.
        judged: the outputs that a metric decides on, which may have become others.
        environment: where the candidate ran, in words.

    Raises:
        DatasetError: the two have outputs of other names or shapes.
    """
    for found in compare(before, outputs):
        agreement = "" if found.agreement is None else f", same decision on {found.agreement:.2%}"
        binding = found.output not in judged
        wanted = f"correlation at least {TRAINED_CORRELATION}"
        yield Evidence(
            check=f"like before training: {found.output}",
            holds=not binding or found.correlation >= TRAINED_CORRELATION,
            verdict="measured",
            found=f"correlation {found.correlation:.4f}{agreement}",
            wanted=wanted if binding else f"{wanted} (the metric decides)",
            environment=environment,
            value=found.correlation,
        )
