"""Who this device is: its profile, whom it trusts, and the key that opens what was encrypted for it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from edgepack_runtime._data import dataclass
from edgepack_runtime._fields import Fields, parse_json
from edgepack_runtime._files import read_capped
from edgepack_runtime.container import MAGIC
from edgepack_runtime.errors import FileError, SchemaError
from edgepack_runtime.grants import DeviceKey
from edgepack_runtime.keyfiles import load_device_key, passphrase_in, verifying_key_in
from edgepack_runtime.plaintext import forbid_core_dumps
from edgepack_runtime.trust import MAX_TRUST_BYTES, TrustedKeys

# What a device without a state or a store never needs is imported where it is used: an application starts sooner.
if TYPE_CHECKING:
    from pathlib import Path

    from edgepack_runtime.state import DeviceState
    from edgepack_runtime.statefile import StateFolder
    from edgepack_runtime.storefile import StoreFolder
    from edgepack_runtime.trust_update import TrustState

__all__ = ["ENGINE_POLICIES", "Device", "load_trust", "trust_of", "update_trust_of"]

# "exact": only the engine version the bundle was proven under. "self-test": another version too, if the golden
# tensors come out right when the bundle is opened.
ENGINE_POLICIES = ("exact", "self-test")
_MAX_BYTES = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """This device, as its owner configured it.

    Args:
        profile: the profile bundles must be built for; None accepts any, for tools that only inspect.
        trust: the release keys it believes, and how many must have signed.
        trust_state: the trust document that `trust` is from, if it is; the state may hold a newer one.
        trust_file: where `trust` was read from; trust updates of a device without a state go there.
        key: opens encrypted bundles; None for a device that only verifies.
        num_threads: threads of the engine, instead of the profile's number.
        accepted: the security version floor by product name.
        engine_policy: one of `ENGINE_POLICIES`.
        state: where it keeps the floors that bundles have raised; the higher of both counts.
        store: where bundles are installed; that needs a state, too.

    Raises:
        SchemaError: `engine_policy` is none of them, `num_threads` is below 1, or there is a state and no profile.
    """

    profile: str | None
    trust: TrustedKeys
    key: DeviceKey | None = field(default=None, repr=False)
    num_threads: int | None = None
    accepted: Mapping[str, int] = field(default_factory=dict)
    engine_policy: str = "exact"
    state: StateFolder | None = None
    store: StoreFolder | None = None
    trust_state: TrustState | None = field(default=None, repr=False)
    trust_file: str | Path | None = None

    def __post_init__(self) -> None:
        if self.engine_policy not in ENGINE_POLICIES:
            raise SchemaError(f"engine_policy {self.engine_policy!r} is none of {', '.join(ENGINE_POLICIES)}")
        if self.num_threads is not None and self.num_threads < 1:
            raise SchemaError(f"num_threads {self.num_threads} is below 1")
        if self.state is not None and self.profile is None:
            raise SchemaError("a device with a state folder needs a profile: its floors are of that profile")

    def floors(self, state: DeviceState | None = None) -> dict[str, int]:
        """Return the security version floor in force by product: the higher of `accepted` and the state's.

        Args:
            state: what was read of the state folder; without it, it is read.

        Raises:
            StateError: there is a state folder, and no good state in it.
            FileError: the state cannot be read.
        """
        floors = dict(self.accepted)
        if self.state is not None and self.profile is not None:
            state = state or self.state.read()
            for product, floor in state.floors_of(self.profile).items():
                floors[product] = max(floor, floors.get(product, 0))
        return floors

    @classmethod
    def from_file(cls, path: str | Path) -> Device:
        """Return the device a JSON file describes; relative paths in it are relative to the file.

        ``{"profile": "raspberry-pi-4", "trust": "trust.json", "key": "device.key.pem"}``; optional are
        ``num_threads``, ``engine_policy``, ``accepted`` (a table of security versions by product), ``state`` (a
        folder, read each time a bundle is opened), ``store`` (a folder for installed bundles) and
        ``passphrase_file``, whose first line opens an encrypted key.
        With a key this process dumps no core from here on (`edgepack_runtime.plaintext.forbid_core_dumps`).

        Raises:
            FileError: a file cannot be read.
            SchemaError: a field is missing, unknown or wrong.
            KeyFileError: a key file holds no key of the right kind, or cannot be opened.
            BundleError: a trust document is malformed, or not signed by enough of its root keys.
        """
        folder, name = os.path.split(path)
        fields = Fields(parse_json(read_capped(path, _MAX_BYTES), name), name)
        key, secret = _take_path(fields, "key", folder), _take_path(fields, "passphrase_file", folder)
        if key is not None:
            # Before it is read: it opens every bundle that was ever made for this device.
            forbid_core_dumps()
        device_key = _load_key(fields, key, secret)
        accepted = fields.take_table("accepted", {})
        state, store = _take_path(fields, "state", folder), _take_path(fields, "store", folder)
        trust_file = _take_path(fields, "trust", folder)
        if trust_file is None:
            fields.refuse("trust", "missing (expected text): the trust file of this device")
        trust, document = _read_trust(trust_file)
        device = cls(
            profile=fields.take("profile", str),
            trust=trust,
            key=device_key,
            num_threads=fields.take("num_threads", int, None),
            accepted={name: accepted.take(name, int) for name in accepted.names()},
            engine_policy=fields.take_choice("engine_policy", ENGINE_POLICIES, "exact"),
            state=None if state is None else _state_folder(state),
            store=None if store is None else _store_folder(store),
            trust_state=document,
            trust_file=trust_file,
        )
        fields.finish()
        return device


def _state_folder(path: str) -> StateFolder:
    from pathlib import Path

    from edgepack_runtime.statefile import StateFolder

    return StateFolder(Path(path))


def _store_folder(path: str) -> StoreFolder:
    from pathlib import Path

    from edgepack_runtime.storefile import StoreFolder

    return StoreFolder(Path(path))


def _take_path(fields: Fields, name: str, folder: str) -> str | None:
    text = fields.take(name, str, None)
    if text is not None and (not text or "\0" in text):
        fields.refuse(name, f"{text!r} is no path")
    return None if text is None else os.path.join(folder, text)  # noqa: PTH118 - pathlib is slow to import


def _load_key(fields: Fields, key: str | None, secret: str | None) -> DeviceKey | None:
    """Return the device's key; a passphrase that opens nothing is refused, as it may be meant for another key."""
    asked: list[str] = []
    source = None if secret is None else passphrase_in(secret)

    def ask(what: str) -> bytes:
        asked.append(what)
        assert source is not None  # noqa: S101 - it is only asked where there is one
        return source(what)

    found = None if key is None else load_device_key(key, None if source is None else ask)
    if secret is not None and not asked:
        fields.refuse("passphrase_file", "the key is not encrypted, or there is none")
    return found


def load_trust(path: str | Path) -> TrustedKeys:
    """Return the trusted release keys in a trust file, in a trust document, or the one public key in a PEM file.

    A trust document at this path is believed because its owner put it there; its own root keys must have signed it.

    Raises:
        FileError: it cannot be read.
        SchemaError: it is none of these, or a field is wrong.
        BundleError: a trust document is malformed, or not signed by enough of its root keys.
        KeyFileError: a PEM file holds no Ed25519 or P-256 public key.
    """
    return _read_trust(path)[0]


def _read_trust(path: str | Path) -> tuple[TrustedKeys, TrustState | None]:
    """Return the keys that count, and the document they are from, if it is one; the file is read once."""
    try:
        data = read_capped(path, MAX_TRUST_BYTES)
    except FileError as error:
        raise FileError(error.message, hint="name the trust file, or the release key's .pub.pem") from None
    try:
        if data.startswith(MAGIC):
            from edgepack_runtime.trust_file import trust_in

            state = trust_in(data, path)
            return state.document.release, state
        if b"-----BEGIN " in data:
            return TrustedKeys.of([verifying_key_in(data, path)], threshold=1), None
        return TrustedKeys.from_json(data, str(path)), None
    finally:
        # Should it be a private key, no frame of the refusal shall hold it.
        del data


def trust_of(device: Device) -> TrustState:
    """Return the trust document in force on a device: the newer of the one its owner named and the one in its state.

    Raises:
        SchemaError: it has a plain trust file, which is no document.
        StateError: the device has a state folder, and no good state in it.
        FileError: the state cannot be read.
        BundleError: the stored document is none.
    """
    from edgepack_runtime.state import StoredTrust
    from edgepack_runtime.trust_file import trust_in_force

    stored = StoredTrust() if device.state is None else device.state.read().trust
    found = trust_in_force(device.trust_state, stored)
    if found is None:
        raise SchemaError(
            f"{device.trust_file}: a plain trust file, no trust document", hint="`edgepack trust init` makes one"
        )
    return found


def update_trust_of(device: Device, updates: Sequence[Path]) -> TrustState:
    """Return the state after all `updates`, kept in the device's state with the floors they reset.

    A device without a state has no floors to reset: its trust document is replaced. If any update is refused, nothing
    is written.

    Raises:
        SchemaError: the device has neither a state nor a trust file.
        FileError: a file cannot be read or written.
        BundleError: an update is refused, or the device has a plain trust file.
        StateError: there is no good state.
    """
    from pathlib import Path

    from edgepack_runtime.trust_file import update_stored_trust, update_trust

    if device.state is not None and device.profile is not None:
        return update_stored_trust(device.state, device.trust_state, device.profile, updates)
    if device.trust_file is None:
        raise SchemaError("this device was made without a trust file that could be updated")
    return update_trust(Path(device.trust_file), updates, stateless=True)
