"""Which kind of PyTorch file it is: told from names in a zip and operations of a pickle, and nothing is executed."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Set
from pathlib import Path
from typing import BinaryIO

from edgepack._zips import DAMAGED, is_bounded
from edgepack.errors import SourceModelError

__all__ = ["LEGACY_MAGIC", "legacy_kind", "zip_kind"]

# What torch.save wrote first before it wrote zip files: its magic number, pickled.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# The object itself stands behind that number, the protocol and facts about the machine, each a pickle of its own.
_LEGACY_HEADERS = 3
_MAX_PICKLE = 256 << 20
_MAX_OPERATIONS = 5_000_000
# What the pickle of a state dict names: tensors, and how they are put together. The child's reader is stricter.
_TENSOR_MODULES = frozenset(
    {"_codecs", "collections", "torch", "torch._tensor", "torch._utils", "torch.nn.parameter", "torch.serialization"}
    | {"torch.storage", "torch.torch_version"}
)
_OLD_EXPORT = "serialized_exported_program.json"
_SAVE_INSTEAD = (
    "where its code is, run torch.save(model.state_dict(), 'net.pth') and build with --module FILE.py:CLASS, or "
    "torch.export.save(torch.export.export(model.eval(), (sample,)), 'net.pt2')"
)


def zip_kind(path: Path, archive: zipfile.ZipFile, names: Set[str]) -> str | None:
    """Return ``torchscript``, ``torch_export`` or ``torch_state``; None for a zip file that is not PyTorch's.

    Raises:
        SourceModelError: it is PyTorch's and none of these: a pickled object, or compiled code.
    """
    if _OLD_EXPORT in names:
        return "torch_export"
    # Everything stands in one folder, named after the file it was first saved as.
    roots = {name.partition("/")[0] for name in names}
    if len(roots) != 1:
        return None
    (root,) = roots
    inside = {name.partition("/")[2] for name in names}
    if "archive_format" in inside:
        return _export(path, inside)
    if "data.pkl" not in inside:
        return None
    if "constants.pkl" in inside and any(name.startswith("code/") for name in inside):
        return "torchscript"
    try:
        info = archive.getinfo(f"{root}/data.pkl")
        if info.file_size > _MAX_PICKLE or not is_bounded(archive, info):
            raise SourceModelError(f"{path}: a PyTorch file whose data.pkl is packed in a way PyTorch never writes")
        pickled = archive.read(info)
    except DAMAGED:
        raise SourceModelError(
            f"{path}: truncated or damaged PyTorch file", hint="copy or download it again"
        ) from None
    _refuse_objects(path, io.BytesIO(pickled))
    return "torch_state"


def _export(path: Path, inside: Set[str]) -> str:
    if any(name.startswith("models/") for name in inside):
        return "torch_export"
    raise SourceModelError(
        f"{path}: a .pt2 file without a graph in it: compiled code for one machine (AOTInductor)",
        hint="save the exported program itself: torch.export.save(exported, 'net.pt2')",
    )


def legacy_kind(path: Path, file: BinaryIO) -> str:
    """Return ``torch_state`` for a file that torch.save wrote before PyTorch 1.6, `file` at its beginning.

    Raises:
        SourceModelError: it holds an object, or is damaged.
    """
    for _ in range(_LEGACY_HEADERS):
        _globals(path, file)
    _refuse_objects(path, file)
    return "torch_state"


def _refuse_objects(path: Path, file: BinaryIO) -> None:
    others = [name for name in _globals(path, file) if name.rpartition(".")[0] not in _TENSOR_MODULES]
    if others:
        raise SourceModelError(
            f"{path}: a pickled PyTorch object ({', '.join(others[:3])}), which would execute code when loaded",
            hint=_SAVE_INSTEAD,
        )


def _globals(path: Path, file: BinaryIO) -> list[str]:
    """Return what one pickle names, as ``module.name``, in order; the file is left behind it."""
    found: dict[str, None] = {}
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > _MAX_OPERATIONS:
                raise SourceModelError(f"{path}: a pickle of more than {_MAX_OPERATIONS} operations is no state dict")
            if opcode.name in ("GLOBAL", "INST"):
                found[str(argument).replace(" ", ".", 1)] = None
            elif opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
                # torch.save writes protocol 2, and nothing else of PyTorch reads these.
                found["a name put together while it is loaded"] = None
    except (ValueError, MemoryError, OverflowError):
        raise SourceModelError(
            f"{path}: truncated or damaged PyTorch file", hint="copy or download it again"
        ) from None
    return list(found)
