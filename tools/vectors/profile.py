"""Vectors of what a manifest's profile may have and need not: other versions, delegates, limits, what is wrong."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tools.vectors.layout import Spec, parts
from tools.vectors.manifest import TABLE, spec_of, text_of
from tools.vectors.vector import ONE, Vector, good, refused

__all__ = ["FULL", "profile"]

Path = tuple[str | int, ...]
_WHY = {"kind": "published", "text": "why"}
_DELEGATES = [{"name": "XNNPACK", "version": "2.14.0"}, {"name": "gpu", "version": "r1", "library": "libgpu.so.1"}]
_WRONG = {"scheme": "float16", "reason": "rounds", "source": _WHY}
_LIMITS = {"input_dtypes": ["int8", "uint8"], "output_dtypes": ["int8"], "max_input_bytes": 64, "batch": 1}
_DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
# Each of them, where it stands, and the figure that then has a source.
_MEMBERS: Mapping[str, tuple[Path, object, tuple[str, ...]]] = {
    "also": (("engine", "also"), ["2.13.0", "2.14"], ("engine.also",)),
    "delegates": (("engine", "delegates"), _DELEGATES, ("engine.delegates",)),
    "known_wrong": (("quantization", "known_wrong"), [_WRONG], ()),
    "io": (("io",), _LIMITS, tuple(f"io.{name}" for name in _LIMITS)),
}


def _with(table: dict[str, Any], path: Path, *value: object) -> dict[str, Any]:
    """Return the manifest with another value there in its profile, or with nothing."""
    changed = copy.deepcopy(table)
    *way, last = path
    inner: Any = changed["profile"]
    for step in way:
        inner = inner[step]
    if value:
        inner[last] = copy.deepcopy(value[0])
    else:
        del inner[last]
    return changed


def _adding(table: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the manifest with these members of `_MEMBERS`, and their sources."""
    for name in names:
        path, value, figures = _MEMBERS[name]
        table = _with(table, path, value)
        table["profile"]["sources"].update(dict.fromkeys(figures, _WHY))
    return table


# A manifest whose profile has everything.
FULL = _adding(TABLE, *_MEMBERS)


def profile() -> Iterator[Vector]:
    """What a reader of manifests must take in a profile, and what it must not."""
    for name, table in _good():
        spec = spec_of(table)
        yield good(name, parts(spec).file(), spec, reads_manifest=True)
    for name, table in (*_sources(), *_shapes(), *_values()):
        yield _refused(name, spec_of(table))
    yield from _header()


def _refused(name: str, spec: Spec) -> Vector:
    return refused(name, parts(spec).file(), ("meta", 0), reads_manifest=True)


def _good() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "all of them", FULL
    for name in _MEMBERS:
        yield f"only {name}", _adding(TABLE, name)
    for name, value in _LIMITS.items():
        table = _with(TABLE, ("io",), {name: value})
        table["profile"]["sources"][f"io.{name}"] = _WHY
        yield f"only io/{name}", table
    yield "every dtype", _with(FULL, ("io", "input_dtypes"), list(_DTYPES))
    yield "dtypes the other way round", _with(FULL, ("io", "input_dtypes"), list(reversed(_DTYPES)))
    yield "the largest batch", _with(FULL, ("io", "batch"), 2**53 - 1)
    yield "a hundred other versions", _with(FULL, ("engine", "also"), [f"1.{i}" for i in range(100)])
    yield "the version in other digits", _with(FULL, ("engine", "also"), ["2.14.00", "02.14.0", "2.14"])
    longest = [{"name": "~" * 64, "version": "!" * 64, "library": "a" * 64}]
    yield "the longest names of a delegate", _with(FULL, ("engine", "delegates"), longest)
    yield "every character of a library", _with(FULL, ("engine", "delegates", 1, "library"), "0A.z_9+-.so")
    twice = [{**_DELEGATES[1], "name": name} for name in ("a", "A")]
    yield "two delegates of one library", _with(FULL, ("engine", "delegates"), twice)
    wrong = [{**_WRONG, "scheme": scheme} for scheme in ("float16", "dynamic_range")]
    yield "two schemes known to be wrong", _with(FULL, ("quantization", "known_wrong"), wrong)
    yield "a reason beyond ASCII", _with(FULL, ("quantization", "known_wrong", 0, "reason"), "verfälscht \U0001f600")
    for name in ("version", "delegates", "io"):
        yield f"a product that is called {name}", _with(FULL, ("description",), name)


def _sources() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield profiles that have a member without its source, or a source without its member."""
    for name, (path, value, figures) in _MEMBERS.items():
        for figure in figures:
            yield f"no source of {figure}", _with(FULL, ("sources", figure))
            yield f"{figure} has a source, and is not there", _with(TABLE, ("sources", figure), _WHY)
        if figures:
            yield f"{name} without any source", _with(TABLE, path, value)
    yield "a source of a limit that is not there", _with(FULL, ("io", "batch"))
    for figure in ("io", "quantization.known_wrong", "engine.name", "io.layout"):
        yield f"a source of {figure}", _with(FULL, ("sources", figure), _WHY)
    yield "an unknown kind of source", _with(FULL, ("sources", "engine.also", "kind"), "heard")


def _shapes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield members that are null, of another type, empty, or have one member too many or too few."""
    delegate: Path = ("engine", "delegates", 1)
    wrong: Path = ("quantization", "known_wrong", 0)
    paths = [path for path, _, _ in _MEMBERS.values()] + [("io", name) for name in _LIMITS]
    paths += [(*delegate, name) for name in _DELEGATES[1]] + [(*wrong, name) for name in _WRONG]
    for path in paths:
        shown = "/".join(map(str, path))
        values: tuple[object, ...] = (None, True, 1.5, {}, [[]], "a\tb")
        for value in values:
            yield f"{shown} is {json.dumps(value)}", _with(FULL, path, value)
    for path in (*(path for path, _, _ in _MEMBERS.values()), ("io", "input_dtypes"), ("io", "output_dtypes")):
        yield f"{'/'.join(map(str, path))} is empty", _with(FULL, path, [])
    for path in [*((*delegate, name) for name in ("name", "version")), *((*wrong, name) for name in _WRONG)]:
        yield f"without {'/'.join(map(str, path))}", _with(FULL, path)
    for name in ("kind", "text"):
        yield f"the source of what is wrong without {name}", _with(FULL, (*wrong, "source", name))
    for path in (delegate, wrong, (*wrong, "source"), ("io",)):
        shown = "/".join(map(str, path))
        yield f"an unknown member in {shown}", _with(FULL, (*path, "nobody knows"), 1)


def _values() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield values that no rule allows."""
    delegate: Path = ("engine", "delegates", 1)
    wrong: Path = ("quantization", "known_wrong", 0)
    libraries = ("", "/lib/libgpu.so", "../libgpu.so", "lib/gpu.so", ".so", "-l", "a" * 65, "a\n", "é.so", "a\0")
    words = ("", "a b", "\t", "é", "a" * 65, "a\x7f", "a\n")
    versions = (["2"], ["2.14.0.0.0"], ["v2.14"], [">=2.13"], ["2.14.0rc1"], ["2.123456789"], ["2.13.0", "2.13.0"])
    two = [_WRONG, {**_WRONG, "reason": "otherwise"}]
    values: Sequence[tuple[Path, Sequence[object]]] = (
        (("engine", "also"), (*versions, [ONE.engine_version], ["2.13.0", ONE.engine_version], [1], ["2.13.0\n"])),
        ((*delegate, "name"), (*words, _DELEGATES[0]["name"])),
        ((*delegate, "version"), words),
        ((*delegate, "library"), libraries),
        ((*wrong, "scheme"), ("as_is", "int4", "float32", "full_integer")),
        ((*wrong, "reason"), ("", "a\nb", "\u202eb", "a" * 1001)),
        ((*wrong, "source", "kind"), ("heard", "")),
        ((*wrong, "source", "text"), ("", "a\nb")),
        (("quantization", "known_wrong"), (two,)),
        (("io", "input_dtypes"), (["int4"], ["INT8"], ["int8", "int8"], [1], ["int8\0"], "int8")),
        (("io", "output_dtypes"), (["string"], ["float32", "int8", "float32"])),
        (("io", "max_input_bytes"), (0, -1, "64")),
        (("io", "batch"), (0, -1, [1])),
    )
    for path, several in values:
        for value in several:
            told = json.dumps(value)
            shown = told if len(told) < 60 else f"{told[:12]}... of {len(told)}"
            yield f"{'/'.join(map(str, path))}: {shown}", _with(FULL, path, value)


def _header() -> Iterator[Vector]:
    """Yield bundles whose header says one of the other versions, or has the digest of a profile without them."""
    spec = spec_of(FULL)
    other = replace(ONE, engine_version="2.13.0")
    yield _refused("the header has one of the other versions", spec_of(FULL, spec=other))
    bare = spec_of(TABLE).profile_digest
    yield _refused("the digest leaves out what may be missing", replace(spec, profile_digest=bare))
    filled = _with(TABLE, ("engine", "also"), [])
    exact = hashlib.sha256(text_of(filled["profile"])).digest()
    yield _refused("the digest fills in an empty list", replace(spec_of(TABLE), profile_digest=exact))
    turned = _with(FULL, ("engine", "also"), ["2.14", "2.13.0"])
    yield _refused(
        "the digest has the versions sorted otherwise", replace(spec, profile_digest=spec_of(turned).profile_digest)
    )
