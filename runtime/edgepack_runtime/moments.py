"""Signed moments in words."""

from __future__ import annotations

import time

__all__ = ["expiry_in_words", "utc"]

# 9999-12-31: later ones are no dates, but numbers a signature happens to cover.
_LAST = 253_402_300_799


def utc(seconds: int) -> str:
    """Return unix seconds as a date and time, or as a number where no calendar has them."""
    if not 0 <= seconds <= _LAST:
        return f"{seconds} s after 1970"
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def expiry_in_words(expires: int) -> str:
    """Return what a bundle's `expires` means for a device; an installed bundle never stops running."""
    return "never expires" if expires == 0 else f"can be installed until {utc(expires)}"
