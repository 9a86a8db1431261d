"""HDF5 files that lead to other files: HDF5 would open what they name and take it for weights."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from edgepack.errors import ConversionError, SourceModelError

__all__ = ["refuse_links"]

# What h5py makes of the HDF5 library's errors on damaged files.
_H5PY = (OSError, LookupError, RuntimeError, TypeError, ValueError)
_MOST = 1_000_000
_HINT = "weights have to be in the file itself: load the model where these files are, and save it again"


def refuse_links(source: Path | IO[bytes], name: str) -> None:
    """Refuse an HDF5 file with links to other files, or with data kept in other files.

    Args:
        source: where it is.
        name: what it is called in messages.

    Raises:
        SourceModelError: it cannot be read, or has no end.
        ConversionError: something in it lies in another file.
    """
    import h5py

    try:
        with h5py.File(source, "r") as file:
            _walk(file, name)
    except _H5PY as error:
        raise SourceModelError(f"the HDF5 file cannot be read: {error}") from None


def _walk(file: Any, name: str) -> None:
    import h5py

    # By its address: hard links make a graph of the tree, and it may have cycles.
    seen = set()
    waiting = [file["/"]]
    while waiting:
        group = waiting.pop()
        for key in group:
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ConversionError(
                    f"{name}: {group.name}/{key} is a link to the file {link.filename!r}", hint=_HINT
                )
            if isinstance(link, h5py.SoftLink):
                continue
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > _MOST:
                raise SourceModelError(f"{name}: more than {_MOST} objects in it")
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                _refuse_data_elsewhere(item, name)


def _refuse_data_elsewhere(dataset: Any, name: str) -> None:
    if dataset.external:
        files = ", ".join(repr(file) for file, *_ in dataset.external[:3])
        raise ConversionError(f"{name}: {dataset.name} takes its values from {files}", hint=_HINT)
    if dataset.is_virtual:
        raise ConversionError(f"{name}: {dataset.name} takes its values from other datasets", hint=_HINT)
