"""Grants that lie beside a bundle: a device enrolled after the release gets a file of about 100 bytes, not a bundle.

A sidecar file is a grants block and nothing else (`docs/bundle-format.md`, "Sidecar grants").
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from edgepack_runtime._files import read_capped
from edgepack_runtime.container import MAX_GRANTS_LENGTH, Container, Grant, parse_grants
from edgepack_runtime.errors import FormatError
from edgepack_runtime.grants import DeviceKey, grant_for
from edgepack_runtime.signing import key_id

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SIDECAR_SUFFIX", "read_sidecar", "sidecar_grants", "sidecar_path"]

SIDECAR_SUFFIX = ".grant"


def sidecar_path(bundle: Path) -> Path:
    """Return where the grants of the bundle at this path are looked for."""
    return bundle.with_name(bundle.name + SIDECAR_SUFFIX)


def read_sidecar(path: str | Path) -> tuple[Grant, ...]:
    """Return the grants in a sidecar file.

    Raises:
        FileError: it cannot be read, is no regular file, or is longer than a grants block may be.
        FormatError: it is no grants block.
    """
    try:
        return parse_grants(read_capped(path, MAX_GRANTS_LENGTH))
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", hint="ask the publisher for it again") from None


def sidecar_grants(
    container: Container, private_key: DeviceKey | None, bundle: str | Path, named: str | Path | None = None
) -> tuple[Grant, ...]:
    """Return the grants beside a bundle, as far as they are needed.

    Args:
        container: the bundle.
        private_key: the key that shall open it.
        bundle: where the bundle is.
        named: a sidecar file to be read in any case; without it, the one at `sidecar_path` is read if it exists and
            the bundle itself has no grant for the key.

    Raises:
        FileError: a sidecar file cannot be read.
        FormatError: it is no grants block.
    """
    if named is not None:
        return read_sidecar(named)
    path = f"{os.fspath(bundle)}{SIDECAR_SUFFIX}"
    if private_key is None or not _is_there(path):
        return ()
    wanted = key_id(private_key.public_key())
    # What is in the bundle is enough: a stale or damaged file beside it must not stop a device that does not need it.
    if grant_for(wanted, container.grants) is not None:
        return ()
    return read_sidecar(path)


def _is_there(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - pathlib is slow to import
    except OSError as error:
        # The bundle's name may leave no room for the suffix. Any other trouble, reading will tell.
        return error.errno not in (errno.ENOENT, errno.ENAMETOOLONG)
    return True
