"""Data that a function of the user's own makes, in a child process; what it gives is checked as a file is.

The function takes nothing, or the one path that was named with it, and gives arrays [n, ...] by the inputs' names,
with the labels among them as in an ``.npz``, or the one array of the one input.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.dataset import UNNAMED, Dataset, dataset_of
from edgepack.errors import DatasetError, WorkerError
from edgepack.reading import DataFunction
from edgepack.truth import is_label, labels_for
from edgepack.usercode import load_function, reason
from edgepack.worker import Workplace, run_task
from edgepack_runtime._fields import canonical_json
from edgepack_runtime._files import read_capped
from edgepack_runtime.errors import FileError
from edgepack_runtime.tensors import Array

__all__ = ["DataRequest", "MadeData", "load_made", "make"]

_MAX_SOURCE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRequest:
    """What the child is asked for; of the user's files it may read the function's own, and `given`."""

    path: Path
    entry: str
    given: Path | None
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeData:
    """What the function gave: arrays [n, ...] by name, the labels among them."""

    arrays: Mapping[str, Array]


def load_made(function: DataFunction, what: str) -> Dataset:
    """Return the samples that a function makes; its digest and theirs are in the notes.

    Args:
        function: of the user's own.
        what: ``calibration`` or ``evaluation``, for messages.

    Raises:
        RecipeError: the function cannot be used.
        DatasetError: it fails, or gives something else than samples.
    """
    where = f"{what} data {function}"
    given = None if function.given is None else function.given.resolve()
    try:
        code = hashlib.sha256(read_capped(function.path, _MAX_SOURCE)).hexdigest()
    except FileError as error:
        raise DatasetError(f"{where}: {error.message}") from None
    asked = DataRequest(path=function.path.resolve(), entry=function.entry, given=given, name=where)
    try:
        made = run_task("edgepack.owndata:make", asked, MadeData, Workplace(python=Path(sys.executable))).arrays
    except WorkerError as error:
        raise DatasetError(
            f"{where}: {error.message}",
            hint=f"it has no network, and no files but what is named: {function.path.name}:{function.entry}:PATH",
        ) from error
    digest = _digest(made)
    name = f"{function.path.name}:{function.entry}"
    note = f"the {what} data are made by the user's own code: {name}, SHA-256 {code}; their own is {digest}"
    return replace(dataset_of(function.path, made, digest, where), notes=(note,))


def make(request: DataRequest) -> MadeData:
    """Return what the user's function gives; runs in the child.

    Raises:
        RecipeError: the function cannot be used.
        DatasetError: it fails, or gives something else than samples.
    """
    function = load_function(request.path, request.entry, request.name)
    try:
        found = function() if request.given is None else function(request.given)
    except (Exception, SystemExit) as error:
        said = reason(error, request.path)
        hint = "it may read the one path that is named: FILE.py:FUNCTION:PATH" if isinstance(error, OSError) else ""
        raise DatasetError(f"{request.name} fails: {said}", hint=hint) from error
    arrays = _arrays(found, request.name)
    checked = dataset_of(request.path, arrays, "", request.name)
    # As the checks leave them: other dtypes than a model's cannot leave the child.
    labels = {name: labels_for(checked.labels, name.partition(".")[2]) for name in arrays if is_label(name)}
    return MadeData(arrays={**checked.feeds, **{name: array for name, array in labels.items() if array is not None}})


def _arrays(found: Any, name: str) -> dict[str, Array]:
    given = {UNNAMED: found} if isinstance(found, np.ndarray) else found
    if not isinstance(given, Mapping) or not all(
        isinstance(key, str) and isinstance(value, np.ndarray) for key, value in given.items()
    ):
        raise DatasetError(
            f"{name} gives {type(found).__name__}, wanted a numpy array, or a dict of them by the inputs' names",
            hint='return {"image": images, "y": classes}',
        )
    return {key: np.ascontiguousarray(value) for key, value in given.items()}


def _digest(arrays: Mapping[str, Array]) -> str:
    whole = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        whole.update(canonical_json([name, str(array.dtype), list(array.shape)]) + b"\0")
        whole.update(hashlib.sha256(np.ascontiguousarray(array).data).digest())
    return whole.hexdigest()
