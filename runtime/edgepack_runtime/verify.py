"""From unbelieved bytes to a bundle one may open: the only maker of a `VerifiedBundle`.

No I/O, no clock. Each step is numbered as in "Reading a bundle" of `docs/bundle-format.md`; the order is the
security: nothing is parsed before its signature holds, nothing is decrypted before policy allows it, and no plaintext
leaves before every byte of its entry was authenticated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import InitVar, field
from types import TracebackType

from edgepack_runtime._data import dataclass
from edgepack_runtime._room import Room, room_in
from edgepack_runtime.compression import NO_COMPRESSION, decompress
from edgepack_runtime.container import Container, Grant
from edgepack_runtime.encryption import PayloadSuite, Read, copy_entry, decrypt_entry, entry_context, wipe
from edgepack_runtime.errors import (
    ExpiredError,
    FormatError,
    GrantError,
    IncompatibleError,
    RevokedError,
    RollbackError,
)
from edgepack_runtime.grants import DeviceKey, open_grant
from edgepack_runtime.signing import verify_threshold
from edgepack_runtime.table import Entry, EntryRole, Header, SignedTable
from edgepack_runtime.trust import TrustedKeys

__all__ = ["Policy", "UnlockedBundle", "VerifiedBundle", "verify"]

_MADE_BY_VERIFY = object()
_MADE_BY_UNLOCK = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What this device accepts now.

    Args:
        profile: the profile the device is configured as; None accepts any, for tools that only inspect.
        accepted: the security version floor by product, the highest one this device has accepted of each.
        now: unix seconds when installing, the later of the clock and the newest signed time seen; None when running,
            because expiry never stops a bundle that is installed.
        compressions: those that can be unpacked here, from `edgepack_runtime.compression.supported`.
    """

    profile: str | None
    accepted: Mapping[str, int] = field(default_factory=dict)
    now: int | None = None
    compressions: Set[int] = frozenset({NO_COMPRESSION})


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedBundle:
    """A bundle whose signatures hold and which this device may run. Only `verify()` makes one.

    `signers` are the ids of the trusted keys that signed it.
    """

    container: Container = field(repr=False)
    table: SignedTable
    signers: tuple[bytes, ...] = field(repr=False)
    made_by: InitVar[object]

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _MADE_BY_VERIFY:
            raise TypeError("only verify() makes a VerifiedBundle")

    @property
    def header(self) -> Header:
        """What the bundle is and for whom."""
        return self.table.header

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What the payload holds, sorted by name."""
        return self.table.entries

    @property
    def manifest(self) -> bytes:
        """The signed JSON text."""
        return self.table.manifest

    def entry(self, name: str) -> Entry:
        """Return the entry called `name`.

        Raises:
            FormatError: there is none.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise FormatError(f"the bundle has no entry {name!r}, only {', '.join(e.name for e in self.entries)}")

    def entries_of(self, role: EntryRole) -> tuple[Entry, ...]:
        """Return the entries of one role, sorted by name."""
        return tuple(entry for entry in self.entries if entry.role is role)

    def unlock(self, private_key: DeviceKey | None, sidecar: Sequence[Grant] = ()) -> UnlockedBundle:
        """Return the bundle with its content key (step 12).

        Args:
            private_key: the device's key; None will do for a bundle that is signed and not encrypted.
            sidecar: grants from elsewhere; those in the bundle come first.

        Raises:
            GrantError: it is encrypted, and no grant opens with this key.
            KeyFileError: the key is of a kind that cannot receive bundles.
        """
        content_key = bytearray()
        if self.header.suite is not PayloadSuite.PLAIN:
            if private_key is None:
                raise GrantError("the bundle is encrypted and this device has no key", hint="enrol the device first")
            content_key = open_grant(private_key, (*self.container.grants, *sidecar), self.container.signed)
        return UnlockedBundle(bundle=self, content_key=content_key, made_by=_MADE_BY_UNLOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlockedBundle:
    """A verified bundle and its content key; close it to wipe the key. Only `VerifiedBundle.unlock()` makes one."""

    bundle: VerifiedBundle
    content_key: bytearray = field(repr=False, compare=False)
    made_by: InitVar[object]

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _MADE_BY_UNLOCK:
            raise TypeError("only VerifiedBundle.unlock() makes an UnlockedBundle")

    def read_entry(self, name: str, read: Read, into: memoryview | Room) -> None:
        """Fill `into` with the content of an entry, or with zeros if anything is wrong (steps 13 to 17).

        Args:
            name: the entry.
            read: `read(offset, size)` gives bytes of the bundle file; offsets count from the file's start. Each
                stored byte is asked for once, about 1 MiB at a time, from two threads.
            into: room for exactly `content_length` bytes. Use them only after this returned.

        Raises:
            FormatError: there is no such entry.
            PayloadError: the payload is cut short, altered, was encrypted for another bundle or entry, or does not
                unpack to what was signed.
            ValueError: `into` has another length or is no plain writable memory, or the bundle was closed.
        """
        entry = self.bundle.entry(name)
        room = into if isinstance(into, Room) else room_in(into)
        plain = isinstance(into, Room) or (into.format == "B" and into.c_contiguous and not into.readonly)
        if not plain or room.length != entry.content_length:
            raise ValueError(f"entry {name!r} needs {entry.content_length} writable bytes, got {room.length}")
        if entry.compression == NO_COMPRESSION:
            self._read_plain(entry, read, room)
            return
        packed = bytearray(entry.plain_length)
        try:
            self._read_plain(entry, read, room_in(memoryview(packed)))
            decompress(packed, room)
        except BaseException:
            room.wipe()
            raise
        finally:
            wipe(packed)

    def _read_plain(self, entry: Entry, read: Read, into: Room) -> None:
        header = self.bundle.header
        start = self.bundle.container.preamble.front_length + entry.offset

        def read_stored(offset: int, size: int) -> bytes:
            return read(start + offset, size)

        if header.suite is PayloadSuite.PLAIN:
            copy_entry(entry.digests, read_stored, into)
        else:
            if not self.content_key:
                raise ValueError("the bundle is closed: its content key was wiped")
            context = entry_context(header.bundle_id, header.profile_digest, entry.name)
            decrypt_entry(self.content_key, context, entry.digests, read_stored, into)

    def close(self) -> None:
        """Wipe the content key and forget it; nothing can be read any more."""
        wipe(self.content_key)
        self.content_key.clear()

    def __enter__(self) -> UnlockedBundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _refuse_revoked_signers(container: Container, trust: TrustedKeys) -> None:
    """Name the reason where a bundle lacks signatures because its signers are revoked; theirs are never looked at."""
    signers = [signature.key_id for signature in container.signatures]
    revoked = [key.hex()[:16] for key in signers if key in trust.revoked_keys]
    if revoked and sum(key in trust.by_id() for key in signers) < trust.threshold:
        raise RevokedError(
            f"signed by {', '.join(revoked)}, which is revoked, and not by enough others",
            hint="have the publisher sign it with a key that counts: edgepack sign",
        )


def verify(container: Container, trust: TrustedKeys, policy: Policy) -> VerifiedBundle:
    """Return the bundle as one that may be opened here and now (steps 5 to 11).

    Raises:
        SignatureError: too few trusted keys signed it, or a trusted key's signature is wrong.
        FormatError: what was signed is malformed.
        IncompatibleError: it needs a newer reader, or was built for another profile.
        RevokedError: it is revoked, or too few but revoked keys signed it.
        RollbackError: its security version is below the floor.
        ExpiredError: it must not be installed any more.
    """
    # Steps 5 and 6. From here on the signed bytes are the publisher's.
    _refuse_revoked_signers(container, trust)
    signers = verify_threshold(container.signed, container.signatures, trust.by_id(), trust.threshold)
    # Steps 7 and 8.
    table = SignedTable.parse(container.signed, policy.compressions)
    if table.payload_length != container.preamble.payload_length:
        raise FormatError(
            f"payload: {container.preamble.payload_length} bytes in the file, {table.payload_length} were signed"
        )
    header = table.header
    # Step 9.
    if policy.profile is not None and header.profile != policy.profile:
        raise IncompatibleError(
            f"built for profile {header.profile!r}, this device is {policy.profile!r}",
            hint=f"build it again with --profile {policy.profile}",
        )
    # Step 10.
    if header.bundle_id in trust.revoked_bundles:
        raise RevokedError(f"bundle {header.bundle_id.hex()} of {header.product} is revoked")
    floor = policy.accepted.get(header.product, 0)
    if header.security_version < floor:
        raise RollbackError(
            f"security version {header.security_version} is lower than {floor}, which this device accepted",
            hint=f"publish {header.product} again with a security version of at least {floor}",
        )
    # Step 11.
    if policy.now is not None and header.expires != 0 and policy.now >= header.expires:
        raise ExpiredError(f"expired at {header.expires}, it is now {policy.now} (unix seconds)")
    return VerifiedBundle(container=container, table=table, signers=signers, made_by=_MADE_BY_VERIFY)
