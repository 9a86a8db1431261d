"""Which layers a user or a search named, and what precision each operator of the model gets by it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.errors import PassError
from edgepack.layers import Layer
from edgepack.passes._values import check_layers, check_precision

__all__ = ["Assigned", "LayerRule", "Named", "assigned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRule:
    """Layers, and the precision they get.

    A layer is named by its tensor's exact name, by ``#12``, its operator's place in the file, by ``op:CONV_2D``, its
    operator, or by ``re:...``, a regular expression that some of its name matches.

    Raises:
        PassError: the precision is unknown, or a layer is named in no such way.
    """

    layers: tuple[str, ...]
    precision: str

    def __post_init__(self) -> None:
        check_precision(self.precision)
        check_layers(self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """A layer and the precision it is to have; `named` if a rule says so."""

    layer: Layer
    precision: str
    named: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """How many layers of a model rules name."""

    layers: int


def assigned(layers: Sequence[Layer], base: str, rules: Sequence[LayerRule]) -> tuple[Assigned, ...]:
    """Return what each layer gets: `base`, or what the last rule that names it says.

    Raises:
        PassError: the precision is unknown, or a rule names no layer.
    """
    check_precision(base)
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
        pattern = re.compile(text[3:])
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
