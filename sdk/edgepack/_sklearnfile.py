"""Tell a scikit-learn file from other pickles and zips by the names of modules in it; nothing is unpickled."""

from __future__ import annotations

import bz2
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepack._zips import is_bounded
from edgepack.errors import ConversionError

__all__ = ["is_sklearn_pickle", "is_skops", "refuse_pickle"]

# What LZMA may take to unpack: twenty bytes can ask for gigabytes. joblib's levels up to 8 need 33 MiB.
_MAX_DICTIONARY = 48 << 20
# joblib compresses with zlib unless told otherwise; the others by the name of the file.
_PACKED: dict[bytes, Callable[[], Any]] = {
    b"\x78": zlib.decompressobj,
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lambda: lzma.LZMADecompressor(memlimit=_MAX_DICTIONARY),
    b"\x5d\x00\x00": lambda: lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=_MAX_DICTIONARY),
}
_LOOKED_AT = 1 << 20
_MAX_SCHEMA = 64 << 20
# Protocols 2 to 5 begin so; 0 and 1 have no mark, and are not taken for models.
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_MODULE = re.compile(rb"sklearn\.[a-z_]")


def _unpacked(head: bytes) -> bytes:
    """Return the first bytes of what is packed in a file that begins with `head`, or `head` if nothing is."""
    for magic, make in _PACKED.items():
        if head.startswith(magic):
            try:
                return bytes(make().decompress(head, _LOOKED_AT))
            except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError):
                return b""
    return head


def is_sklearn_pickle(head: bytes) -> bool:
    """Return whether a file that begins with `head` (1 MiB or all of it) is a pickle that names scikit-learn."""
    data = _unpacked(head)
    return bool(_PICKLE.match(data) and _MODULE.search(data))


def is_skops(archive: zipfile.ZipFile, names: set[str]) -> bool:
    """Return whether a zip file is a skops file of a scikit-learn object.

    Raises:
        OSError: it cannot be read; damaged ones raise one of `_zips.DAMAGED`.
    """
    if "schema.json" not in names:
        return False
    info = archive.getinfo("schema.json")
    if info.file_size > _MAX_SCHEMA or not is_bounded(archive, info):
        return False
    return bool(_MODULE.search(archive.read(info)))


def refuse_pickle(path: Path) -> None:
    """Refuse a scikit-learn file that is no skops file: nobody said that its author is trusted.

    Raises:
        ConversionError: it is a pickle.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    if not is_zip:
        raise ConversionError(
            f"{path.name} is a pickle (joblib): loading it executes whatever its author put in it",
            hint="if you know where it comes from: --trust-source loads it, in the child process and without a "
            "network; or save the model again with skops.io.dump(model, 'model.skops'), which needs no trust",
        )
