"""What an ONNX model with an open batch gives for several samples at once, beside what it gives for each alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgepack.converters._parity import batch_notes
from edgepack_runtime.tensors import Array

__all__ = ["notes_on_the_batch"]


def notes_on_the_batch(
    source: str | bytes, feeds: Mapping[str, Array], reference: Mapping[str, Array]
) -> tuple[str, ...]:
    """Return what to say of it; nothing where an input's first dimension is fixed.

    Args:
        source: the model's path, or the model, that onnxruntime has run.
        feeds: samples one at a time, [n, *shape] by input name.
        reference: onnxruntime's outputs on them, [n, *shape] by output name.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(source, settings, providers=["CPUExecutionProvider"])
    if not all(value.shape and not isinstance(value.shape[0], int) for value in session.get_inputs()):
        return ()
    # Asked for one sample of another size, the source would see several of it here.
    if any(array.ndim < 2 or array.shape[1] != 1 for array in feeds.values()):
        return ()

    def run(batch: Mapping[str, Array]) -> dict[str, Array]:
        results = session.run(list(reference), dict(batch))
        return {name: np.asarray(value) for name, value in zip(reference, results, strict=True)}

    return batch_notes(run, feeds, reference)
