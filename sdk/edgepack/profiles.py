"""Find, read and list device profiles: those edgepack ships, a file of your own, and ``local``.

A profile file is TOML; `edgepack_runtime.profile` has its schema and ``docs/profiles.md`` explains it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

from edgepack._toml import MAX_TOML_BYTES, parse_toml
from edgepack.errors import ProfileError
from edgepack.localprofile import LOCAL, local_profile
from edgepack.profile_text import profile_toml
from edgepack_runtime._fields import Fields
from edgepack_runtime._files import write_whole
from edgepack_runtime.profile import DeviceProfile

__all__ = ["list_profiles", "load_profile", "write_profile"]

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


def write_profile(profile: DeviceProfile, folder: Path) -> Path:
    """Return the file ``NAME.toml`` in `folder`, written whole; a file that exists is never overwritten.

    Raises:
        ProfileError: it exists, or the name is one that cannot be had.
        FileError: it cannot be written.
    """
    path = folder / f"{profile.name}.toml"
    if profile.name == LOCAL:
        raise ProfileError(f"the name {LOCAL!r} is the machine at hand's", hint="take another name")
    if path.exists():
        raise ProfileError(f"{path} exists", hint="take another name or folder, or remove it")
    write_whole(path, profile_toml(profile).encode(), mode=0o644)
    return path


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
            data = file.read(MAX_TOML_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ProfileError(f"{shown}: cannot be read: {error}") from None
    profile = DeviceProfile.from_fields(Fields(parse_toml(data, shown, ProfileError), shown))
    if LOCAL in (profile.name, *profile.aliases):
        raise ProfileError(f"{shown}: the name {LOCAL!r} is the machine at hand's")
    return profile
