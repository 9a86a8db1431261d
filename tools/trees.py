"""Random changes to what JSON holds: the mutants of manifests."""

from __future__ import annotations

import copy
import random
from typing import Any

__all__ = ["alter"]

_NUMBERS = (0, 1, -1, 2**53 - 1, 2**53, 0.5, 1.5, -0.0, 1e-7, 1e300, 12345678901234567.0)
_WORDS = ("", "1", "a", "as_is", "float16", "int8", "armv7l", "tflite-runtime", "unknown", "2.14.0.1", "glibc 2.4")
_VALUES: tuple[object, ...] = (None, True, False, [], {}, *_NUMBERS, *_WORDS, "\U0001f600\\")
_CHARACTERS = "aZ09._- /\n\0\x7f\xa0\u2028\u2030"


def _places(inner: Any) -> list[tuple[Any, Any]]:
    """Return every place in a tree: the object or list, and the name or number."""
    keys = list(inner) if isinstance(inner, dict) else list(range(len(inner))) if isinstance(inner, list) else []
    return [(inner, key) for key in keys] + [place for key in keys for place in _places(inner[key])]


def alter(pick: random.Random, tree: dict[str, Any]) -> None:
    """Do one thing somewhere in a tree: put a value in, take one out, copy one, or alter a text."""
    places = _places(tree)
    inner, key = pick.choice(places)
    other, there = pick.choice(places)
    # A copy: what goes into the tree may be altered there in turn.
    value = copy.deepcopy(pick.choice((pick.choice(_VALUES), pick.choice(_VALUES), other[there])))
    kind = pick.randrange(4)
    if kind == 0:
        del inner[key]
    elif kind == 1 and isinstance(inner, list):
        inner.insert(key, value)
    elif kind == 1:
        inner[pick.choice(("nobody knows", str(there)))] = value
    elif kind == 2 and isinstance(inner[key], str):
        at = pick.randrange(len(inner[key]) + 1)
        rest = inner[key][at + pick.randrange(2) :]
        inner[key] = inner[key][:at] + pick.choice(_CHARACTERS) + rest
    else:
        inner[key] = value
