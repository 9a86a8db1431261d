"""How well a bundle protects its model, said no better than it is."""

from __future__ import annotations

from edgepack_runtime._data import dataclass
from edgepack_runtime.encryption import PayloadSuite

__all__ = ["LEVELS", "Protection", "protection_of"]

LEVELS = ("signed only", "grants apart", "one key", "several keys")
_NOT_KNOWABLE = "whether a key is a file or lies in hardware cannot be told from a bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """`level` is one of `LEVELS`, `short` fits on a line with others, `text` is what it means."""

    level: str
    short: str
    text: str

    def __str__(self) -> str:
        return self.text


def protection_of(suite: PayloadSuite, recipients: int) -> Protection:
    """Return the level of a bundle that is encrypted in `suite` and has grants for that many keys in it.

    It tells what the file shows. Whether several devices hold one key, and whether a key can be copied off its
    device, only its owner knows.
    """
    if suite is PayloadSuite.PLAIN:
        return Protection(
            level="signed only",
            short="not encrypted",
            text="not encrypted: signed only, whoever has the file has the model",
        )
    if recipients == 0:
        return Protection(
            level="grants apart",
            short="encrypted, grants apart",
            text=f"encrypted, for keys named in sidecar files; {_NOT_KNOWABLE}",
        )
    if recipients == 1:
        return Protection(
            level="one key",
            short="encrypted for 1 key",
            text="encrypted for 1 key: a shared key if more than one device has it, and then no device can be left "
            f"out; {_NOT_KNOWABLE}",
        )
    return Protection(
        level="several keys",
        short=f"encrypted for {recipients} keys",
        text=f"encrypted for {recipients} keys: per-device keys if no two devices have the same one; {_NOT_KNOWABLE}",
    )
