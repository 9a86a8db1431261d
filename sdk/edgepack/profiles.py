"""Find, read and list device profiles: those edgepack ships, a file of your own, and ``local``.

A profile file is TOML; `edgepack_runtime.profile` has its schema and ``docs/profiles.md`` explains it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

import tomllib

from edgepack.errors import ProfileError
from edgepack_runtime._fields import Fields
from edgepack_runtime.probe import LOCAL, local_profile
from edgepack_runtime.profile import DeviceProfile

__all__ = ["list_profiles", "load_profile"]

_MAX_BYTES = 256 << 10
# tomllib takes time with the square of a dotted key's parts, and a key cannot leave its line: with long lines
# 120 KB of "a.a.a." take minutes and gigabytes.
_MAX_LINE = 500
_LIST = "list them all: edgepack profiles list"


def load_profile(name_or_path: str | Path) -> DeviceProfile:
    """Return the profile of a name, an alias, ``local``, or a ``.toml`` file.

    Text is a path if it ends in ``.toml`` or has a slash in it.

    Raises:
        ProfileError: there is none of that name, or the file cannot be read as TOML.
        SchemaError: a field of the file is wrong; the message starts with file and field.
        EngineError: ``local`` was asked for and no engine is installed.
        EdgepackError: ``local`` was asked for and this machine cannot be a device.
    """
    if isinstance(name_or_path, Path) or name_or_path.endswith(".toml") or os.sep in name_or_path:
        shown = str(name_or_path)
        return _read(Path(name_or_path), shown=shown if shown.isprintable() else repr(shown))
    if name_or_path == LOCAL:
        return local_profile()
    by_name = {name: p for p in list_profiles() for name in (p.name, *p.aliases)}
    if name_or_path in by_name:
        return by_name[name_or_path]
    near = difflib.get_close_matches(name_or_path.lower(), [*by_name, LOCAL], n=3, cutoff=0.5)
    did_you_mean = f"; near it: {', '.join(near)}" if near else ""
    raise ProfileError(f"no device profile is named {name_or_path[:100]!r}{did_you_mean}", hint=_LIST)


def list_profiles() -> tuple[DeviceProfile, ...]:
    """Return the profiles edgepack ships, by name; ``local`` is not among them.

    Raises:
        ProfileError: their folder is missing, a file cannot be read, or two share a name.
        SchemaError: a field of one is wrong.
    """
    return _read_all(sorted(_folder().glob("*.toml")))


def _read_all(paths: Iterable[Path]) -> tuple[DeviceProfile, ...]:
    profiles: list[DeviceProfile] = []
    owner: dict[str, str] = {}
    for path in paths:
        profile = _read(path, shown=path.name)
        for name in (profile.name, *profile.aliases):
            if name in owner:
                raise ProfileError(f"{path.name}: the name {name!r} is taken by {owner[name]}")
            owner[name] = path.name
        profiles.append(profile)
    return tuple(sorted(profiles, key=lambda profile: profile.name))


def _folder() -> Path:
    package = Path(__file__).resolve().parent
    # A wheel carries the folder inside the package; an editable install and a checkout have it at their root.
    for folder in (package / "device_profiles", package.parents[1] / "device_profiles"):
        if folder.is_dir():
            return folder
    raise ProfileError(
        f"the folder device_profiles is neither in {package} nor at the root of a checkout",
        hint="install edgepack again, or name a profile's file",
    )


def _read(path: Path, *, shown: str) -> DeviceProfile:
    try:
        if not path.is_file():
            raise ProfileError(f"{shown}: no such file", hint=_LIST)
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ProfileError(f"{shown}: cannot be read: {error}") from None
    profile = DeviceProfile.from_fields(Fields(_parse(data, shown), shown))
    if LOCAL in (profile.name, *profile.aliases):
        raise ProfileError(f"{shown}: the name {LOCAL!r} is the machine at hand's")
    return profile


def _parse(data: bytes, shown: str) -> dict[str, object]:
    if len(data) > _MAX_BYTES:
        raise ProfileError(f"{shown}: larger than {_MAX_BYTES >> 10} KiB, expected a device profile")
    for number, line in enumerate(data.splitlines(), 1):
        if len(line) > _MAX_LINE:
            raise ProfileError(
                f"{shown}: line {number} has {len(line)} bytes, expected at most {_MAX_LINE}",
                hint='break long text: """, and a backslash at the end of each line',
            )
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ProfileError(f"{shown}: not UTF-8 at byte {error.start}") from None
    # TOMLDecodeError is a ValueError, and so is what int() and the calendar raise for figures out of range.
    except (ValueError, OverflowError) as error:
        raise ProfileError(f"{shown}: not valid TOML: {error}") from None
    except RecursionError:
        raise ProfileError(f"{shown}: not valid TOML: nested too deep") from None
