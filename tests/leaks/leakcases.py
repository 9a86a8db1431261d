"""The forced failures: which bundle, which device, what is done with it, and the error that must come of it.

Both sides read this table, the test and the child process; so nothing secret stands in it.
"""

from __future__ import annotations

from dataclasses import dataclass

# Names of files the test writes, and of the steps the child knows.
GOOD = "good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One failure: `bundle` and `device` name files, `step` what the child does."""

    name: str
    error: str
    bundle: str = GOOD
    device: str = GOOD
    step: str = "open"


def _bundles() -> list[Case]:
    payload = [
        *(
            f"flip-{part}-{at}"
            for part in ("model", "golden")
            for at in ("first", "salt", "commitment", "tag", "last")
        ),
        "flip-model-second-segment",
        "flip-model-last-segment",
        "forged-first-chunk",
        "forged-last-chunk",
        "forged-commitment",
        "swapped-segments",
        "another-content-key",
    ]
    front = {
        "truncated": "FormatError",
        "extended": "FormatError",
        "flip-header": "SignatureError",
        "flip-manifest": "SignatureError",
        "flip-signature": "SignatureError",
        "stranger": "SignatureError",
        "grant-flipped": "GrantError",
        "grant-of-another-bundle": "GrantError",
        "grant-of-kind-2": "GrantError",
        "grant-of-kind-3": "GrantError",
        "no-grant": "GrantError",
        "other-profile": "IncompatibleError",
        "other-engine-version": "IncompatibleError",
        "missing-engine": "EngineError",
        "old": "RollbackError",
        "lying-input": "FormatError",
        "lying-golden": "FormatError",
        "lying-manifest": "FormatError",
    }
    refused = ["no-magic", "root-outside", "cut-in-half", "zeros", "noise", "custom-op", "vtable", "empty"]
    return [
        *(Case(name=name, bundle=name, error="PayloadError") for name in payload),
        *(Case(name=name, bundle=name, error=error) for name, error in front.items()),
        *(Case(name=f"engine-{name}", bundle=f"engine-{name}", error="EngineError") for name in refused),
    ]


def _devices() -> list[Case]:
    errors = {
        "wrong-key": "GrantError",
        "key-of-another-kind": "GrantError",
        "no-key": "GrantError",
        "two-signers": "SignatureError",
        "signing-key": "KeyFileError",
        "damaged-key": "KeyFileError",
        "locked-key": "KeyFileError",
        "wrong-passphrase": "KeyFileError",
        "role-of-a-release-key": "KeyFileError",
        "trust-is-a-private-key": "KeyFileError",
    }
    return [Case(name=name, device=name, error=error) for name, error in errors.items()]


def _steps() -> list[Case]:
    errors = {
        "wrong-name": "InputError",
        "wrong-shape": "InputError",
        "wrong-dtype": "InputError",
        "no-array": "InputError",
        "run-after-close": "EngineError",
        "self-test-after-close": "EngineError",
        "altered-after-open": "PayloadError",
        "cut-after-open": "PayloadError",
        "interrupted-while-reading": "KeyboardInterrupt",
        "out-of-memory-while-reading": "MemoryError",
        "cut-while-reading": "PayloadError",
        "read-only-buffer": "ValueError",
        "no-file-size": "FileError",
        "no-descriptors": "FileError",
        "closed-key": "ValueError",
    }
    return [
        *(Case(name=name, step=name, error=error) for name, error in errors.items()),
        Case(name="wrong-golden", bundle="wrong-golden", step="self-test", error="SelfTestError"),
    ]


CASES = {case.name: case for case in (*_bundles(), *_devices(), *_steps())}
