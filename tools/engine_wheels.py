"""Write sdk/edgepack/data/engine_wheels.csv: for which boards each version of each engine has a wheel.

    python -m tools.engine_wheels

It asks the package registry that pip is configured for (its simple index, PEP 503 and 691), and nothing is downloaded
but the list of file names.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from pip._internal.models.index import PyPI

from edgepack_runtime.profile import ARCHITECTURES, ENGINES

TABLE = Path(__file__).parents[1] / "sdk" / "edgepack" / "data" / "engine_wheels.csv"
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
_WHEEL = re.compile(
    r'(?P<name>[A-Za-z_]+)-(?P<version>[0-9.]+)-cp3(?P<minor>\d+)-[^-"<>/# ]+-(?P<tags>[^-"<>/# ]+)\.whl'
)
# PEP 600: what the older names mean in versions of glibc.
_GLIBC = {"manylinux2014": "2.17", "manylinux2010": "2.12", "manylinux1": "2.5"}


def index_url() -> str:
    """Return the registry that pip asks."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return said.rstrip("/") or PyPI.simple_url


def file_names(package: str) -> set[str]:
    """Return the names of the package's files."""
    request = urllib.request.Request(f"{index_url()}/{package}/", headers={"Accept": _ACCEPT})
    with urllib.request.urlopen(request) as reply:
        text = reply.read().decode()
    try:
        return {file["filename"] for file in json.loads(text)["files"]}
    except ValueError:
        return set(re.findall(r"[^/\"<>#=\s]+\.whl", text))


def glibc_of(tag: str) -> str:
    """Return the glibc that a platform tag without its architecture asks for; "" if it asks for another libc."""
    if match := re.fullmatch(r"manylinux_(\d+)_(\d+)", tag):
        return f"{match[1]}.{match[2]}"
    return _GLIBC.get(tag, "")


def rows(package: str) -> dict[tuple[str, str], tuple[str, set[int]]]:
    """Return the oldest glibc and the minor Python versions, by version and architecture."""
    found: dict[tuple[str, str], tuple[str, set[int]]] = {}
    for name in sorted(file_names(package)):
        match = _WHEEL.fullmatch(name)
        for tag in match["tags"].split(".") if match else ():
            for arch in ARCHITECTURES:
                glibc = glibc_of(tag.removesuffix(f"_{arch}")) if tag.endswith(f"_{arch}") else ""
                if match and glibc:
                    pythons = found.setdefault((match["version"], arch), (glibc, set()))[1]
                    pythons.add(int(match["minor"]))
    return found


def release(version: str) -> tuple[int, ...]:
    """Return a version's numbers, to sort by."""
    return tuple(map(int, version.split(".")))


def main() -> None:
    """Write the table."""
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["engine", "version", "arch", "glibc", "python"])
        for engine in ENGINES:
            found = rows(engine)
            for version, arch in sorted(found, key=lambda item: (release(item[0]), item[1])):
                glibc, pythons = found[version, arch]
                out.writerow([engine, version, arch, glibc, " ".join(f"3.{minor}" for minor in sorted(pythons))])


if __name__ == "__main__":
    main()
