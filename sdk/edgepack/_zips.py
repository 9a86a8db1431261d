"""Zip files of strangers: what reading one may raise, and which kinds of compression are unpacked."""

from __future__ import annotations

import struct
import zipfile
import zlib

__all__ = ["DAMAGED", "is_bounded"]

# What zipfile and its decompressors were seen to raise on damaged files; an unknown method or version is a
# NotImplementedError, encryption a plain RuntimeError.
DAMAGED = (
    EOFError,
    LookupError,
    RuntimeError,
    UnicodeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
)


def is_bounded(info: zipfile.ZipInfo) -> bool:
    """Return whether a member is unpacked in pieces; of bzip2 and LZMA, zipfile unpacks whatever is in a block."""
    return info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
