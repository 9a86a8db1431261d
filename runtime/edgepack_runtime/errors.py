"""Every error edgepack raises on purpose, in one tree.

::

    EdgepackError                       exit code 1
    ├── BundleError                     a bundle was refused; never run it
    │   ├── FormatError                 the bytes are no well-formed bundle
    │   ├── SignatureError              not enough valid signatures by trusted keys
    │   ├── PolicyError                 authentic, but not for here and now
    │   │   ├── IncompatibleError       another profile, engine or format
    │   │   ├── RollbackError           older than what this device has accepted
    │   │   ├── FastForwardError        its security version leaps further than one bundle may
    │   │   ├── ExpiredError            too old to install
    │   │   └── RevokedError            revoked, or signed by a key that was
    │   ├── GrantError                  no grant opens it with this device's key
    │   ├── PayloadError                ciphertext altered, truncated or swapped
    │   └── SelfTestError               it runs, and gives other numbers than were signed
    ├── SchemaError                     a profile, configuration or manifest field is wrong
    ├── KeyFileError                    a key cannot be read or is of the wrong kind
    ├── FileError                       a file cannot be read or written
    ├── StateError                      what this device remembers is missing, damaged or would be forgotten
    ├── StoreError                      nothing in the store can be activated, opened or gone back to
    ├── EngineError                     the engine is missing, of another version, or failed
    └── InputError                      `run` was given wrong names, shapes or dtypes

The host's errors (`edgepack.errors`) hang on the same root. A message says what, where, found and wanted;
`hint` says the way out.
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "EdgepackError",
    "EngineError",
    "ExpiredError",
    "FastForwardError",
    "FileError",
    "FormatError",
    "GrantError",
    "IncompatibleError",
    "InputError",
    "KeyFileError",
    "PayloadError",
    "PolicyError",
    "RevokedError",
    "RollbackError",
    "SchemaError",
    "SelfTestError",
    "SignatureError",
    "StateError",
    "StoreError",
]


class EdgepackError(Exception):
    """Root of all errors raised on purpose; `str()` is one line, `hint` is the way out."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BundleError(EdgepackError):
    """A bundle was refused."""


class FormatError(BundleError):
    """The bytes are not a well-formed bundle."""


class SignatureError(BundleError):
    """Fewer valid signatures by trusted keys than the trust store demands."""


class PolicyError(BundleError):
    """The bundle is authentic, but not for this device at this time."""


class IncompatibleError(PolicyError):
    """The bundle was built for another profile, engine or format."""


class RollbackError(PolicyError):
    """The bundle's security version is lower than one this device has accepted."""


class FastForwardError(PolicyError):
    """The bundle's security version is so far above the floor that accepting it could end all updates."""


class ExpiredError(PolicyError):
    """The bundle's signed expiry lies in the past."""


class RevokedError(PolicyError):
    """The bundle was revoked, or nobody signed it but keys that were."""


class GrantError(BundleError):
    """No grant in the bundle can be opened with this device's key."""


class PayloadError(BundleError):
    """An encrypted entry was altered, truncated or swapped."""


class SelfTestError(BundleError):
    """The model runs, but its outputs differ from the golden outputs that were signed."""


class SchemaError(EdgepackError):
    """A field of a structured file is missing, unknown or wrong; the message starts with its path."""


class KeyFileError(EdgepackError):
    """A key file cannot be read, is encrypted without a passphrase, or holds another kind of key."""


class FileError(EdgepackError):
    """A file cannot be read or written."""


class StateError(EdgepackError):
    """The device's state is missing, damaged, or would forget what was accepted; nothing is run without it."""


class StoreError(EdgepackError):
    """What is installed does not allow what was asked for, or the store's list of it is damaged."""


class EngineError(EdgepackError):
    """The inference engine is missing, of another version than was proven, or failed."""


class InputError(EdgepackError):
    """An array handed to `run` has the wrong name, shape or dtype."""
