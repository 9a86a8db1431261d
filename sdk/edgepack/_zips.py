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


def is_bounded(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    """Return whether unpacking a member takes no more memory than its parts have.

    Of bzip2 and LZMA, zipfile unpacks whatever is in a block; and it makes room for a length before it reads.
    """
    known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return known and info.compress_size <= archive.start_dir
