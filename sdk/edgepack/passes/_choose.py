"""Which layers a user or a search named, and what precision each operator of the model gets by it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.errors import PassError
from edgepack.layers import Layer
from edgepack.passes._forms import WEIGHT_BITS

__all__ = ["Assigned", "LayerRule", "assigned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRule:
    """Layers, and the precision they get.

    A layer is named by its tensor's exact name, by ``#12``, its operator's place in the file, by ``op:CONV_2D``, its
    operator, or by ``re:...``, a regular expression that some of its name matches.
    """

    layers: tuple[str, ...]
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """A layer and the precision it is to have; `named` if a rule says so."""

    layer: Layer
    precision: str
    named: bool


def assigned(layers: Sequence[Layer], base: str, rules: Sequence[LayerRule]) -> tuple[Assigned, ...]:
    """Return what each layer gets: `base`, or what the last rule that names it says.

    Raises:
        PassError: a precision is unknown, or a rule names no layer.
    """
    for precision in (base, *(rule.precision for rule in rules)):
        if precision not in WEIGHT_BITS:
            raise PassError(
                f"precision {precision!r} is none a layer can have", hint=f"known are {', '.join(WEIGHT_BITS)}"
            )
    said = {i: rule.precision for rule in rules for text in rule.layers for i in _named(layers, text)}
    return tuple(
        Assigned(layer=layer, precision=said.get(i, base), named=i in said) for i, layer in enumerate(layers)
    )


def _named(layers: Sequence[Layer], text: str) -> list[int]:
    if text.startswith("#"):
        found = [i for i, layer in enumerate(layers) if f"#{layer.index}" == text]
    elif text.startswith("op:"):
        found = [i for i, layer in enumerate(layers) if layer.operator == text[3:]]
    elif text.startswith("re:"):
        pattern = _compiled(text[3:])
        found = [i for i, layer in enumerate(layers) if pattern.search(layer.name)]
    else:
        found = [i for i, layer in enumerate(layers) if layer.name == text]
    if not found:
        near = difflib.get_close_matches(text, [layer.name for layer in layers], n=1, cutoff=0.4)
        raise PassError(
            f"the model has no layer {text!r}" + (f" (did you mean {near[0]!r}?)" if near else ""),
            hint="`edgepack diagnose` lists the layers",
        )
    return found


def _compiled(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise PassError(f"{text!r} is no regular expression: {error}") from None
