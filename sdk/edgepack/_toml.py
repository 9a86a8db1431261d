"""TOML files from outside, read within bounds."""

from __future__ import annotations

from typing import NoReturn

import tomllib

from edgepack.errors import HostError

__all__ = ["MAX_TOML_BYTES", "parse_toml"]

MAX_TOML_BYTES = 256 << 10
# tomllib takes time with the square of a dotted key's parts, and a key cannot leave its line: with long lines
# 120 KB of "a.a.a." take minutes and gigabytes.
_MAX_LINE = 500


def parse_toml(data: bytes, shown: str, refusal: type[HostError]) -> dict[str, object]:
    """Return the table of a TOML text.

    Args:
        data: the file's bytes.
        shown: the file's name, for messages.
        refusal: the class of error to raise.

    Raises:
        HostError: (`refusal`) it is too large, has too long a line, is no UTF-8 or no valid TOML.
    """

    def refuse(why: str, hint: str | None = None) -> NoReturn:
        raise refusal(f"{shown}: {why}", hint=hint) from None

    if len(data) > MAX_TOML_BYTES:
        refuse(f"larger than the {MAX_TOML_BYTES >> 10} KiB such a file may have")
    for number, line in enumerate(data.splitlines(), 1):
        if len(line) > _MAX_LINE:
            refuse(
                f"line {number} has {len(line)} bytes, expected at most {_MAX_LINE}",
                'break long text: """, and a backslash at the end of each line',
            )
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        refuse(f"not UTF-8 at byte {error.start}")
    # TOMLDecodeError is a ValueError, and so is what int() and the calendar raise for figures out of range.
    except (ValueError, OverflowError) as error:
        refuse(f"not valid TOML: {error}")
    except RecursionError:
        refuse("not valid TOML: nested too deep")
