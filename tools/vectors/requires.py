"""Vectors of manifests that require other products."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tools.vectors.layout import parts
from tools.vectors.manifest import TABLE, spec_of
from tools.vectors.vector import ONE, Vector, good, refused

__all__ = ["requires"]


def _requiring(*required: tuple[object, object]) -> dict[str, Any]:
    items = [{"product": product, "security_version": version} for product, version in required]
    return TABLE | {"requires": items}


def requires() -> Iterator[Vector]:
    """What a reader of manifests must make of requirements, on devices that have accepted more or less."""
    longest = "Az09._-" + "x" * 24
    most = [(f"p{i:02}", 1) for i in range(64)]
    several = [("letters", 3), (longest, 2**53 - 1), ("a", 1)]
    met: dict[str, tuple[list[tuple[object, object]], dict[str, int]]] = {
        "exactly what it requires": ([("letters", 3)], {"letters": 3}),
        "more than it requires": ([("letters", 3)], {"letters": 2**64 - 1, "digits": 7}),
        "several requirements": ([*several], {"letters": 3, "a": 2, longest: 2**53 - 1}),
        "64 requirements": ([*most], {str(product): 1 for product, _ in most}),
    }
    for name, (required, accepted) in met.items():
        spec = spec_of(_requiring(*required))
        yield good(name, parts(spec).file(), spec, reads_manifest=True, accepted=accepted)
    unmet: dict[str, tuple[list[tuple[object, object]], dict[str, int]]] = {
        "less than it requires": ([("letters", 3)], {"letters": 2}),
        "what it requires was never accepted": ([("letters", 1)], {"digits": 7}),
        "nothing was ever accepted": ([("letters", 1)], {}),
        "accepted of names like the required one": ([("letters", 1)], {"letter": 9, "letters2": 9, "Letters": 9}),
        "the last of several is missing": ([*several], {"letters": 3, longest: 2**53 - 1}),
        "one below the highest that can be required": ([("a", 2**53 - 1)], {"a": 2**53 - 2}),
    }
    for name, (required, accepted) in unmet.items():
        data = parts(spec_of(_requiring(*required))).file()
        yield refused(name, data, ("requires", 0), reads_manifest=True, accepted=accepted)
    # All of these would be met.
    accepted = {"letters": 9, "a": 9, ONE.product: 7} | {f"p{i:02}": 9 for i in range(65)}
    malformed: dict[str, object] = {
        "requires nothing": [],
        "requires: no list": {"letters": 3},
        "requires: null": None,
        "65 requirements": _requiring(*[(f"p{i:02}", 1) for i in range(65)])["requires"],
        "requires itself": _requiring((ONE.product, 1))["requires"],
        "requires a product twice": _requiring(("letters", 3), ("a", 1), ("letters", 4))["requires"],
        "requires a text": ["letters=3"],
        "requires a product without a version": [{"product": "letters"}],
        "requires a version without a product": [{"security_version": 3}],
        "requires a product and more": [{"product": "letters", "security_version": 3, "profile": "x"}],
        **{
            f"requires security version {json.dumps(version)}": _requiring(("letters", version))["requires"]
            for version in (0, -1, 1.0, "1", True, None, 2**53)
        },
        **{
            f"requires product {json.dumps(product)}": _requiring((product, 1))["requires"]
            for product in ("", "x" * 32, "-a", ".a", "a b", "a/b", "a\0", "\u00e9", 1)
        },
    }
    for name, items in malformed.items():
        data = parts(spec_of(TABLE | {"requires": items})).file()
        yield refused(name, data, ("meta", 0), reads_manifest=True, accepted=accepted)
    bare = spec_of(_requiring(("letters", 3)))
    yield refused(
        "a manifest of another product before what it requires",
        parts(spec_of(_requiring(("letters", 3)) | {"name": "digit"})).file(),
        ("meta", 0),
        reads_manifest=True,
        accepted={},
    )
    none = parts(bare, recipients=())
    yield refused("what it requires before the grant", none.file(), ("requires", 0), reads_manifest=True, accepted={})
