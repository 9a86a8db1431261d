"""What pruning and the like saved of a model's bytes in the bundle, beside the same model without it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgepack._flatbuffer_edit import unpack
from edgepack.candidate import apply_pass
from edgepack.errors import GateError, PassError
from edgepack.flatbuffer import read_model
from edgepack.model import Refusal, TFLiteModel
from edgepack.pack import stored_bytes
from edgepack.passoptions import PassOrder
from edgepack.release import Chosen, Work
from edgepack.schemes import weights
from edgepack.worker import Workplace
from edgepack_runtime.manifest import Evidence
from edgepack_runtime.tensors import Array

__all__ = ["saved_evidence", "with_bytes_saved", "zero_weights"]

_CHECK = "bytes after training"
_NOT_PACKED = "pruned and clustered weights make a bundle smaller only with --compress, which was not asked for"
_STORED = {"float32": "<f4", "float16": "<f2", "int16": "<i2", "int8": "i1"}
# Bits of one number; several share a byte.
_PACKED = {"int4": 4, "int2": 2}


def zero_weights(model: bytes) -> tuple[int, int]:
    """Return how many weights of a TFLite model are zero, and how many there are.

    Raises:
        SourceModelError: it is no valid TFLite model.
    """
    view, objects = read_model(model), unpack(model)
    # Both have the tensors in the file's order; their buffers they count each in its own way.
    held = {
        id(tensor): objects.buffers[other.buffer].data
        for graph, others in zip(view.subgraphs, objects.subgraphs, strict=True)
        for tensor, other in zip(graph.tensors, others.tensors, strict=True)
    }
    stored = {weight.stored.buffer: weight.stored for weight in weights(view)}
    gone, total = 0, 0
    for tensor in stored.values():
        values = _numbers(bytes(held[id(tensor)]), tensor.dtype)
        gone, total = gone + int((values == 0).sum()), total + values.size
    return gone, total


def _numbers(data: bytes, dtype: str) -> Array:
    if dtype not in _PACKED:
        return np.frombuffer(data, _STORED.get(dtype, "i1"))
    bits = _PACKED[dtype]
    packed = np.frombuffer(data, np.uint8)
    return np.stack([packed >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)])


def with_bytes_saved(item: Chosen, work: Work) -> Chosen:
    """Return an accepted candidate with what the training saved; as it is where nothing was trained.

    The model as it came is made into the same precision by the same pass, and both are counted as a bundle has them.

    Raises:
        GateError: a step that is to save bytes saved none.
        WorkerError: the pass crashed or hung.
    """
    model = item.candidate.model
    if work.before is None or model is None:
        return item
    try:
        before = _like(item, work.before, model, work)
    except PassError as error:
        unknown = f"what the training saves is not known, for without it there is no such model: {error.message}"
        return replace(item, notes=(*item.notes, unknown))
    compress = work.recipe.compress
    evidence = saved_evidence(before.data, model.data, compress=compress, demanded=compress and _shrinks(work))
    if not evidence.holds:
        refusal = Refusal(
            profile=item.profile.name,
            scheme=item.candidate.scheme,
            check=evidence.check,
            found=evidence.found,
            wanted=evidence.wanted,
            remedy="more sparsity or fewer clusters; or no such step, which costs accuracy and saves nothing",
        )
        raise GateError(f"no bundle was written: training saved nothing for {item.profile.name}", refusals=(refusal,))
    notes = () if compress or not _shrinks(work) else (_NOT_PACKED,)
    return replace(item, evidence=(*item.evidence, evidence), notes=(*item.notes, *notes))


def _shrinks(work: Work) -> bool:
    return any(step.shrinks for step in work.recipe.training)


def _like(item: Chosen, before: TFLiteModel, model: TFLiteModel, work: Work) -> TFLiteModel:
    """Return the model before the training in the candidate's precision, made as that one was.

    Raises:
        PassError: the pass cannot be applied to it.
    """
    made = model.history[len(work.model.history) :]
    engine = f"{item.profile.engine.name}=={item.profile.engine.version}"
    for step in made:
        order = PassOrder(scheme=step.use, options=step.options, engine=engine)
        place = Workplace(python=Path(sys.executable))
        feeds, keep = work.samples.calibration_feeds(), work.recipe.keep_names
        before = apply_pass(before, order, feeds, place, keep_names=keep)
    return before


def saved_evidence(before: bytes, after: bytes, *, compress: bool, demanded: bool) -> Evidence:
    """Return what two TFLite models take in a bundle, and how many of their weights are zero.

    Args:
        before: the one without the training.
        after: the one with it.
        compress: whether the bundle is compressed.
        demanded: whether the second has to be the smaller one.

    Raises:
        RecipeError: it shall be compressed, and zstandard is not installed.
        SourceModelError: one is no valid TFLite model.
    """
    old, new = (stored_bytes(data, compress=compress) for data in (before, after))
    (gone, total), (were, _) = zero_weights(after), zero_weights(before)
    packed = "zstd" if compress else "not compressed"
    return Evidence(
        check=_CHECK,
        holds=new < old or not demanded,
        verdict="measured",
        found=f"{new:,} bytes in the bundle ({packed}), {old:,} before it; "
        f"{_share(gone, total)} of {total:,} weights are zero, {were:,} were",
        wanted="fewer bytes than without the training" if demanded else "told, not judged",
        environment="static",
        value=float(new),
    )


def _share(part: int, whole: int) -> str:
    return f"{part / max(1, whole):.1%}"
