"""The golden tensors of an open bundle: checked when it is opened, in clear only for the length of a self-test.

They stay in the file, encrypted. What holds the file to what was verified are the digests in the signed table, which
are in private memory since then: each self-test reads every byte once, hashes it against them, and decrypts what it
hashed. So it does not matter who changed the file in between, and the content key need not be kept: the device's own
key opens the grant again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgepack_runtime.bundlefile import BundleFile
from edgepack_runtime.encryption import check_segments, wipe
from edgepack_runtime.errors import FormatError
from edgepack_runtime.golden import GoldenSample, check_golden_size, forget_golden, unpack_golden
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.table import Entry
from edgepack_runtime.verify import UnlockedBundle, VerifiedBundle

__all__ = ["StoredGolden", "Unlock", "check_stored", "read_golden"]

_MAX_GOLDEN = 256 << 20
Unlock = Callable[[], UnlockedBundle]


class StoredGolden:
    """The golden tensors as they stand in the file, and what it takes to read them; close it to close the file."""

    __slots__ = ("_bundle", "_file", "_manifest", "_unlock")

    def __init__(self, bundle: VerifiedBundle, manifest: Manifest, file: BundleFile, unlock: Unlock) -> None:
        """Check that the golden entry fits the manifest and is the one that was signed; nothing is decrypted.

        Args:
            bundle: the verified bundle.
            manifest: its manifest.
            file: where it stands; it belongs to this object once this has returned.
            unlock: gives the bundle with its content key, each time it is called.

        Raises:
            FormatError: there is no such entry, or it does not fit the manifest.
            PayloadError: it was altered.
            FileError: the file cannot be read.
        """
        self._bundle, self._manifest, self._file, self._unlock = bundle, manifest, file, unlock
        _checked_length(bundle, manifest)
        check_stored(file, bundle, bundle.entry(manifest.golden.entry))

    @contextmanager
    def opened(self) -> Iterator[tuple[GoldenSample, ...]]:
        """Give the samples to a ``with`` block, and overwrite them after it.

        Raises:
            PayloadError: the file was altered since it was opened.
            FileError: the file cannot be read.
        """
        with self._unlock() as unlocked:
            samples = read_golden(unlocked, self._manifest, self._file)
        try:
            yield samples
        finally:
            forget_golden(samples)

    def close(self) -> None:
        """Close the file and forget how to unlock it; closing twice is allowed."""
        self._file.close()


def check_stored(file: BundleFile, bundle: VerifiedBundle, entry: Entry) -> None:
    """Hold every stored byte of an entry against what was signed; nothing is decrypted.

    Raises:
        PayloadError: it was altered.
        FileError: the file cannot be read.
    """
    start = bundle.container.preamble.front_length + entry.offset
    check_segments(
        bundle.header.suite,
        entry.stored_length,
        entry.digests,
        lambda offset, size: file.read(start + offset, size),
    )


def read_golden(unlocked: UnlockedBundle, manifest: Manifest, file: BundleFile) -> tuple[GoldenSample, ...]:
    """Return the golden tensors of a bundle; `edgepack_runtime.golden.forget_golden` overwrites them.

    Raises:
        FormatError: there is no such entry, or it does not fit the manifest.
        PayloadError: it was altered.
        FileError: the file cannot be read.
    """
    buffer = bytearray(_checked_length(unlocked.bundle, manifest))
    try:
        unlocked.read_entry(manifest.golden.entry, file.read, memoryview(buffer))
        return unpack_golden(buffer, manifest.golden.samples, manifest.model.inputs, manifest.model.outputs)
    finally:
        wipe(buffer)


def _checked_length(bundle: VerifiedBundle, manifest: Manifest) -> int:
    size = bundle.entry(manifest.golden.entry).content_length
    if size > _MAX_GOLDEN:
        raise FormatError(f"golden tensors of {size} bytes are longer than {_MAX_GOLDEN}")
    check_golden_size(size, manifest.golden.samples, manifest.model.inputs, manifest.model.outputs)
    return size
