"""Who this device is: its profile, whom it trusts, and the key that opens what was encrypted for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgepack_runtime._fields import Fields, parse_json
from edgepack_runtime._files import read_capped, read_if_there
from edgepack_runtime.container import MAGIC
from edgepack_runtime.errors import FileError, SchemaError
from edgepack_runtime.grants import DeviceKey
from edgepack_runtime.keyfiles import load_device_key, load_verifying_key, passphrase_in, read_key_file
from edgepack_runtime.plaintext import forbid_core_dumps
from edgepack_runtime.statefile import StateFolder
from edgepack_runtime.storefile import StoreFolder
from edgepack_runtime.trust import TrustedKeys
from edgepack_runtime.trust_file import read_trust
from edgepack_runtime.trust_update import MAX_TRUST_BYTES, TrustState

__all__ = ["ENGINE_POLICIES", "Device", "load_trust"]

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

    def __post_init__(self) -> None:
        if self.engine_policy not in ENGINE_POLICIES:
            raise SchemaError(f"engine_policy {self.engine_policy!r} is none of {', '.join(ENGINE_POLICIES)}")
        if self.num_threads is not None and self.num_threads < 1:
            raise SchemaError(f"num_threads {self.num_threads} is below 1")
        if self.state is not None and self.profile is None:
            raise SchemaError("a device with a state folder needs a profile: its floors are of that profile")

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
        path = Path(path)
        fields = Fields(parse_json(read_capped(path, _MAX_BYTES), path.name), path.name)
        key, secret = fields.take("key", str, None), fields.take("passphrase_file", str, None)
        if key is not None:
            # Before it is read: it opens every bundle that was ever made for this device.
            forbid_core_dumps()
        if secret is not None and not _is_encrypted(path.parent, key):
            fields.refuse("passphrase_file", "the key is not encrypted, or there is none")
        passphrase = None if secret is None else passphrase_in(path.parent / secret)
        accepted = fields.take_table("accepted", {})
        state, store = fields.take("state", str, None), fields.take("store", str, None)
        trust_path = path.parent / fields.take("trust", str)
        trust = load_trust(trust_path)
        device = cls(
            profile=fields.take("profile", str),
            trust=trust,
            key=None if key is None else load_device_key(path.parent / key, passphrase),
            num_threads=fields.take("num_threads", int, None),
            accepted={name: accepted.take(name, int) for name in accepted.names()},
            engine_policy=fields.take_choice("engine_policy", ENGINE_POLICIES, "exact"),
            state=None if state is None else StateFolder(path.parent / state),
            store=None if store is None else StoreFolder(path.parent / store),
            trust_state=read_trust(trust_path) if _is_document(trust_path) else None,
        )
        fields.finish()
        return device


def _is_encrypted(base: Path, key: str | None) -> bool:
    return key is not None and b"ENCRYPTED" in read_key_file(base / key)


def _is_document(path: Path) -> bool:
    return (read_if_there(path, len(MAGIC)) or b"") == MAGIC


def load_trust(path: Path) -> TrustedKeys:
    """Return the trusted release keys in a trust file, in a trust document, or the one public key in a PEM file.

    A trust document at this path is believed because its owner put it there; its own root keys must have signed it.

    Raises:
        FileError: it cannot be read.
        SchemaError: it is none of these, or a field is wrong.
        BundleError: a trust document is malformed, or not signed by enough of its root keys.
        KeyFileError: a PEM file holds no Ed25519 or P-256 public key.
    """
    try:
        data = read_capped(path, MAX_TRUST_BYTES)
    except FileError as error:
        raise FileError(error.message, hint="name the trust file, or the release key's .pub.pem") from None
    if data.startswith(MAGIC):
        return read_trust(path).document.release
    if b"-----BEGIN " in data:
        # Should it be a private key, no frame of the refusal shall hold it.
        del data
        return TrustedKeys.of([load_verifying_key(path)], threshold=1)
    return TrustedKeys.from_json(data, str(path))
