"""A key in a PKCS#11 token: ``pkcs11:token=release;object=key?pin-source=file:/run/pin``.

RFC 7512 names the key, ``module-path`` in the URI or ``PKCS11_MODULE`` in the environment the token's library, by its
absolute path. The private key never leaves the token: it is handed the pre-authentication encoding (Ed25519)
or its SHA-256 (ECDSA P-256), and the signature that comes back is checked before it is used. The PIN comes from
``pin-source``, a file or ``fd:NUMBER``, or is asked for; a ``pin-value`` is refused: URIs end up in histories.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from edgepack.passphrase import from_descriptor
from edgepack.signers import SignerRequest
from edgepack_runtime.container import Signature
from edgepack_runtime.errors import KeyFileError, SignatureError
from edgepack_runtime.keyfiles import passphrase_in
from edgepack_runtime.signing import PAYLOAD_TYPE, VerifyingKey, key_id, pae, verify_threshold

if TYPE_CHECKING:
    from edgepack_runtime.keyfiles import PassphraseSource

__all__ = ["KeyAddress", "TokenSigner", "parse_uri", "signer"]

_SCHEME = "pkcs11:"
_KNOWN = {"token", "manufacturer", "model", "serial", "object", "id", "type", "module-path", "pin-source"}
_OCTET_STRING = 0x04
_POINT_SIZES = {"ed25519": 32, "p256": 65}
_COORDINATE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAddress:
    """What a ``pkcs11:`` URI says: which module, token and object, and where the PIN is."""

    uri: str
    module: str | None
    token: str | None
    serial: str | None
    manufacturer: str | None
    model: str | None
    label: str | None
    object_id: bytes | None
    pin_source: str | None

    def __str__(self) -> str:
        return self.uri


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSigner:
    """A key pair in a token. A session is opened for each signature, so that none is held during a long build."""

    address: KeyAddress
    public_key: VerifyingKey
    library: Any = field(repr=False)
    pin: bytes = field(repr=False)

    @property
    def key_id(self) -> bytes:
        """The SHA-256 of the public key's SubjectPublicKeyInfo."""
        return key_id(self.public_key)

    def sign(self, signed: bytes, payload_type: bytes = PAYLOAD_TYPE) -> Signature:
        """Return the signature over a signed region, made in the token.

        Raises:
            KeyFileError: the token refuses, or gave a signature that does not hold.
        """
        from pkcs11 import Mechanism, ObjectClass

        message = pae(signed, payload_type)
        with _session(self.library, self.address, self.pin) as session:
            private = _find(session, self.address, ObjectClass.PRIVATE_KEY)
            if isinstance(self.public_key, Ed25519PublicKey):
                value = bytes(private.sign(message, mechanism=Mechanism.EDDSA))
            else:
                raw = bytes(private.sign(hashlib.sha256(message).digest(), mechanism=Mechanism.ECDSA))
                value = _der(raw, self.address)
        signature = Signature(key_id=self.key_id, value=value)
        try:
            verify_threshold(signed, [signature], {self.key_id: self.public_key}, 1, payload_type)
        except SignatureError:
            raise KeyFileError(
                f"{self.address}: the token gave a signature that its public key does not confirm"
            ) from None
        return signature


def signer(request: SignerRequest) -> TokenSigner:
    """Return the signer of a key in a token, logged in once to see that it is there.

    Raises:
        KeyFileError: the URI is wrong, python-pkcs11 or the module is missing, or there is no such token or key.
    """
    address = parse_uri(request.uri)
    try:
        import pkcs11
    except ImportError:
        raise KeyFileError(
            f"{address}: keys in tokens need python-pkcs11", hint="pip install 'edgepack[pkcs11]'"
        ) from None
    module = address.module or os.environ.get("PKCS11_MODULE")
    if module is None or not Path(module).is_absolute():
        raise KeyFileError(
            f"{address}: no PKCS#11 module is named, wanted an absolute path",
            hint="add ?module-path=/usr/lib/softhsm/libsofthsm2.so to the URI, or set PKCS11_MODULE",
        )
    try:
        library = pkcs11.lib(module)
    except (pkcs11.exceptions.PKCS11Error, RuntimeError) as error:
        raise KeyFileError(f"{address}: {module} is no PKCS#11 module ({error})") from None
    pin = _pin(address, request.passphrase)
    with _session(library, address, pin) as session:
        public_key = _public_key(_find(session, address, pkcs11.ObjectClass.PUBLIC_KEY), address)
        _find(session, address, pkcs11.ObjectClass.PRIVATE_KEY)
    return TokenSigner(address=address, public_key=public_key, library=library, pin=pin)


def parse_uri(uri: str) -> KeyAddress:
    """Return what a ``pkcs11:`` URI says.

    Raises:
        KeyFileError: it is malformed, holds a PIN, or has an attribute that is not known here.
    """
    path, _, query = uri.removeprefix(_SCHEME).partition("?")
    found: dict[str, str] = {}
    for part in [*filter(None, path.split(";")), *filter(None, query.split("&"))]:
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise KeyFileError(
                "a key URI must not hold the PIN: command lines and histories are readable",
                hint="pin-source=file:PATH, or leave it away to be asked",
            )
        if not equals or name in found or name not in _KNOWN:
            raise KeyFileError(
                f"key URI: {name!r} is no attribute that is known here, has no value, or stands twice",
                hint=f"known are {', '.join(sorted(_KNOWN))}",
            )
        found[name] = value
    if "object" not in found and "id" not in found:
        raise KeyFileError(f"{uri}: neither object= nor id= says which key", hint="pkcs11:token=NAME;object=LABEL")
    if found.get("type", "private") != "private":
        raise KeyFileError(f"{uri}: type={found['type']} cannot sign, wanted type=private")
    return KeyAddress(
        uri=uri,
        module=_text(found, "module-path"),
        token=_text(found, "token"),
        serial=_text(found, "serial"),
        manufacturer=_text(found, "manufacturer"),
        model=_text(found, "model"),
        label=_text(found, "object"),
        object_id=unquote_to_bytes(found["id"]) if "id" in found else None,
        pin_source=_text(found, "pin-source"),
    )


def _text(found: dict[str, str], name: str) -> str | None:
    return unquote(found[name]) if name in found else None


def _pin(address: KeyAddress, passphrase: PassphraseSource | None) -> bytes:
    source = address.pin_source
    if source is None:
        if passphrase is None:
            raise KeyFileError(
                f"{address}: the token wants a PIN, and none was given", hint="add ?pin-source=file:PATH"
            )
        return passphrase(f"{address} (PIN)")
    if found := re.fullmatch(r"fd:([0-9]{1,6})", source):
        return from_descriptor(int(found[1]))(str(address))
    # RFC 7512 also allows "|command". A URI that starts programs is no name of a key.
    if source.startswith("|"):
        raise KeyFileError(f"{address}: a pin-source that runs a command is refused", hint="pin-source=file:PATH")
    return passphrase_in(Path(source.removeprefix("file://").removeprefix("file:")))(str(address))


@contextmanager
def _session(library: Any, address: KeyAddress, pin: bytes) -> Iterator[Any]:
    """Give a session of the token, logged in; the module's errors leave as ours."""
    from pkcs11 import exceptions

    try:
        tokens = [token for token in library.get_tokens() if _is_meant(token, address)]
        if len(tokens) != 1:
            raise KeyFileError(f"{address}: {len(tokens)} tokens are so called, wanted 1")
        with tokens[0].open(user_pin=pin.decode("utf-8")) as session:
            yield session
    except UnicodeDecodeError:
        # Sent with another character in its place, it would count as a wrong one.
        raise KeyFileError(f"{address}: the PIN is no UTF-8; it was not tried") from None
    except (exceptions.PinIncorrect, exceptions.PinInvalid, exceptions.PinLenRange):
        raise KeyFileError(
            f"{address}: the PIN is wrong", hint="a token locks itself after a few wrong ones"
        ) from None
    except exceptions.PinLocked:
        raise KeyFileError(f"{address}: the token is locked", hint="its security officer can set a new PIN") from None
    except exceptions.PKCS11Error as error:
        raise KeyFileError(f"{address}: the token refused ({type(error).__name__} {error})".rstrip()) from error


def _is_meant(token: Any, address: KeyAddress) -> bool:
    serial = token.serial.decode("utf-8", "replace") if isinstance(token.serial, bytes) else token.serial
    wanted = (address.token, address.serial, address.manufacturer, address.model)
    found = (token.label, serial, token.manufacturer_id, token.model)
    return all(want in (None, have.strip(" \0")) for want, have in zip(wanted, found, strict=True))


def _find(session: Any, address: KeyAddress, kind: Any) -> Any:
    from pkcs11 import Attribute

    wanted: dict[Any, Any] = {Attribute.CLASS: kind}
    if address.label is not None:
        wanted[Attribute.LABEL] = address.label
    if address.object_id is not None:
        wanted[Attribute.ID] = address.object_id
    # A list, because a search that is still open blocks every other operation of the session.
    found = list(session.get_objects(wanted))
    if len(found) != 1:
        name = kind.name.lower().replace("_", " ")
        raise KeyFileError(f"{address}: {len(found)} objects of class {name} are so called, wanted 1")
    return found[0]


def _public_key(found: Any, address: KeyAddress) -> VerifyingKey:
    from pkcs11 import Attribute, KeyType

    algorithm = {KeyType.EC_EDWARDS: "ed25519", KeyType.EC: "p256"}.get(found.key_type)
    if algorithm is not None:
        point = bytes(found[Attribute.EC_POINT])
        size = _POINT_SIZES[algorithm]
        # Some tokens give the point as it is, most as a DER OCTET STRING.
        if point[:2] == bytes([_OCTET_STRING, size]):
            point = point[2:]
        try:
            if len(point) == size and algorithm == "ed25519":
                return Ed25519PublicKey.from_public_bytes(point)
            if len(point) == size:
                return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
        except ValueError:
            raise KeyFileError(f"{address}: the token's public key is no point of its curve") from None
    raise KeyFileError(f"{address}: the token's key is neither Ed25519 nor P-256", hint="make an EC:prime256v1 key")


def _der(raw: bytes, address: KeyAddress) -> bytes:
    """Return PKCS#11's r || s as the ECDSA-Sig-Value of RFC 3279."""
    if len(raw) != 2 * _COORDINATE:
        raise KeyFileError(f"{address}: the token gave {len(raw)} bytes as a P-256 signature, wanted 64")
    return encode_dss_signature(int.from_bytes(raw[:_COORDINATE], "big"), int.from_bytes(raw[_COORDINATE:], "big"))
