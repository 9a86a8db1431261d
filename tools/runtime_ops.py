"""Write sdk/edgepack/data/runtime_ops/ENGINE-VERSION.json: which operators each engine's wheel registers.

Then ``engine_releases.csv`` is made of them anew: up to which TensorFlow release each has everything.

    python -m tools.runtime_ops [ENGINE==VERSION ...]

Without a name it asks every version in sdk/edgepack/data/engine_wheels.csv that has a wheel for this machine and the
Python of the toolchains. Each is installed into an environment of its own (some 150 MB) and asks itself, by
`edgepack_runtime.op_table`: nothing is taken from a list.
"""

from __future__ import annotations

import csv
import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgepack.engine_ops import parse_engine
from edgepack.flatbuffer import operator_name
from edgepack.opversions import release
from edgepack.toolchain import engine_toolchain, ensure

_ROOT = Path(__file__).parents[1]
DATA = _ROOT / "sdk" / "edgepack" / "data"
# Codes of the schema that stand for something else, and codes it does not know.
_NO_OPERATORS = ("BUILTIN_", "CUSTOM", "DELEGATE", "PLACEHOLDER")
# The Python that toolchains are made with.
_PYTHON = "3.11"
_ASK = (
    "import json, sys; from edgepack_runtime.op_table import operator_table as t; print(json.dumps(t(sys.argv[1])))"
)


def installable() -> Iterator[str]:
    """Yield ``ENGINE==VERSION`` of every wheel for this machine, in the order of the table."""
    with (DATA / "engine_wheels.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["arch"] == platform.machine() and _PYTHON in row["python"].split():
                yield f"{row['engine']}=={row['version']}"


def ask(engine: str, version: str) -> Mapping[str, int]:
    """Return the highest version of each builtin operator of the schema, 0 for none.

    Raises:
        ToolchainError: the environment cannot be made.
    """
    python = ensure(engine_toolchain(engine, version), offline=False, say=lambda text: print(text, file=sys.stderr))
    done = subprocess.run(
        [python, "-B", "-c", _ASK, engine],
        env={"PYTHONPATH": str(_ROOT / "runtime")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    table = json.loads(done.stdout)
    names = {operator_name(code): version for code, version in enumerate(table)}
    return {name: version for name, version in names.items() if not name.startswith(_NO_OPERATORS)}


def releases() -> Iterator[tuple[str, str, str]]:
    """Yield engine, version, and the last TensorFlow release whose operators the engine has all of.

    Operators that no engine registers do not count.
    """
    tables = {path.stem: json.loads(path.read_text("utf-8")) for path in (DATA / "runtime_ops").glob("*.json")}
    with (DATA / "op_versions.csv").open(encoding="utf-8") as lines:
        rows = [(r["op"], int(r["version"]), r["min_tensorflow_runtime"]) for r in csv.DictReader(lines)]
    rows = [row for row in rows if any(table.get(row[0], 0) >= row[1] for table in tables.values())]
    everything = sorted({release(first) for _, _, first in rows})
    for stem, table in sorted(tables.items(), key=lambda item: (_engine(item[0])[0], release(_engine(item[0])[1]))):
        lacking = {release(first) for operator, version, first in rows if table.get(operator, 0) < version}
        until = min(lacking, default=(999,))
        yield *_engine(stem), ".".join(map(str, max(r for r in everything if r < until)))


def _engine(stem: str) -> tuple[str, str]:
    name, _, version = stem.rpartition("-")
    return name, version


def main() -> int:
    """Write the tables."""
    for engine in sys.argv[1:] or installable():
        name, version = parse_engine(engine)
        table = ask(name, version)
        path = DATA / "runtime_ops" / f"{name}-{version}.json"
        path.write_text(json.dumps(table), encoding="utf-8")
        print(f"{path.name}: {sum(v > 0 for v in table.values())} operators")
    with (DATA / "engine_releases.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["engine", "version", "tensorflow"])
        out.writerows(releases())
    return 0


if __name__ == "__main__":
    sys.exit(main())
