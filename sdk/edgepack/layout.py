"""The layout of a bundle's inputs and outputs: channels last or first, whichever the source has.

A device that reads frames channels-last should not have them turned around for a model that was trained
channels-first, when TFLite computes channels-last anyway. So the turn goes into the file, and meets the opposite one
the converter put there::

    image [1,3,64,64] -> TRANSPOSE(0,2,3,1) -> CONV_2D      =>      image [1,64,64,3] -> CONV_2D
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgepack import _flatbuffer_edit
from edgepack._layout_graph import Turned, found_layouts, turned
from edgepack.errors import ConversionError
from edgepack.opversions import stamp
from edgepack.recipe import Layout
from edgepack_runtime.tensors import Array, TensorSpec

__all__ = ["LaidOut", "laid_out", "turned_arrays"]

_SMALLEST_RANK = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LaidOut:
    """The file in its new layout; `orders` says how each turned tensor comes from the source's, as for transpose."""

    data: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    orders: Mapping[str, tuple[int, ...]]
    note: str


def order_to(layout: str, rank: int) -> tuple[int, ...]:
    """Return the permutation to `layout` from the other one, a batch first: (0, 2, 3, 1) to ``nhwc``."""
    if layout == "nhwc":
        return (0, *range(2, rank), 1)
    return (0, rank - 1, *range(1, rank - 1))


def laid_out(
    data: bytes, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], wanted: Layout
) -> LaidOut | None:
    """Return the model with its inputs and outputs as wanted, or None where they are so already.

    Raises:
        ConversionError: a name is no input or output, a tensor has no channels to turn, or it cannot be told whether
            one is an image.
    """
    specs = {spec.name: spec for spec in (*inputs, *outputs)}
    for name in wanted.by_name:
        if name not in specs:
            raise ConversionError(f"a layout was given for {name!r}; the model has {', '.join(specs)}")
    both = {spec.name for spec in inputs} & {spec.name for spec in outputs} & set(wanted.by_name)
    if both:
        raise ConversionError(f"a layout was given for {both.pop()!r}, which is an input and an output")
    model = _flatbuffer_edit.unpack(data)
    signature = model.signatureDefs[0]
    ends = {
        **{_text(e.name): int(e.tensorIndex) for e in signature.inputs},
        **{_text(e.name): int(e.tensorIndex) for e in signature.outputs},
    }
    found = found_layouts(model, ends)
    orders = {}
    for spec in specs.values():
        layout = _layout_for(spec, found[spec.name], wanted)
        if layout:
            orders[spec.name] = order_to(layout, len(spec.shape))
    if wanted.everywhere != "source" and not any(found.values()):
        raise ConversionError(
            f"layout {wanted.everywhere}: no input or output is seen to be an image",
            hint=f"name those that are, e.g. --layout {next(iter(specs))}={wanted.everywhere}",
        )
    if not orders:
        return None
    result = turned(model, ends, orders)
    return LaidOut(
        data=stamp(_flatbuffer_edit.pack(model)),
        inputs=tuple(_turned_spec(spec, orders) for spec in inputs),
        outputs=tuple(_turned_spec(spec, orders) for spec in outputs),
        orders=orders,
        note=_note([specs[name] for name in orders], orders, result),
    )


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _layout_for(spec: TensorSpec, found: str, wanted: Layout) -> str:
    """Return the layout a tensor is to be turned to; '' where it stays."""
    named = wanted.by_name.get(spec.name)
    if named == "source":
        return ""
    if named is not None:
        if len(spec.shape) < _SMALLEST_RANK:
            raise ConversionError(f"layout {named} of {spec.name!r}: {list(spec.shape)} has no channels to turn")
        # Named is said to be in the other layout, whatever it looks like.
        return named
    if wanted.everywhere == "source" or len(spec.shape) not in (4, 5):
        return ""
    # One value a channel, or one channel in one row: both layouts are the same numbers in the same order.
    if sum(size > 1 for size in spec.shape) < 2:
        return ""
    if not found:
        raise ConversionError(
            f"layout {wanted.everywhere}: it cannot be told whether {spec.name!r} {list(spec.shape)} is an image, "
            "and which of its dimensions is the channels",
            hint=f"say --layout {spec.name}=source if it is to stay, --layout {spec.name}={wanted.everywhere} if it "
            "is in the other layout",
        )
    return "" if found == wanted.everywhere else wanted.everywhere


def _turned_spec(spec: TensorSpec, orders: Mapping[str, tuple[int, ...]]) -> TensorSpec:
    if spec.name not in orders:
        return spec
    return replace(spec, shape=tuple(spec.shape[axis] for axis in orders[spec.name]))


def _note(specs: Sequence[TensorSpec], orders: Mapping[str, tuple[int, ...]], result: Turned) -> str:
    told = []
    for spec in specs:
        order = orders[spec.name]
        kind = "nhwc" if order == order_to("nhwc", len(order)) else "nchw"
        told.append(f"{spec.name} {list(spec.shape)} is {[spec.shape[axis] for axis in order]} ({kind})")
    return (
        f"layout: in the bundle {', '.join(told)}; TRANSPOSE operators {result.before} before, {result.after} after"
    )


def turned_arrays(arrays: Mapping[str, Array], orders: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Return arrays [n, *shape] of the source's layout in the bundle's."""
    return {
        name: np.ascontiguousarray(a.transpose(0, *(axis + 1 for axis in orders[name]))) if name in orders else a
        for name, a in arrays.items()
    }
