"""A PyTorch network as a device sees it: tensors in, in order and by name; tensors out; the same answer each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.converters._options import InputShape, first_line
from edgepack.converters._parity import judged_samples
from edgepack.dataset import UNNAMED
from edgepack.errors import ConversionError
from edgepack_runtime.tensors import DTYPES, Array, TensorSpec

__all__ = ["Network", "agrees", "flat", "open_specs", "samples_of", "settle", "with_reference"]

# As a share of an output's range: two ways PyTorch itself computes the same thing.
_EQUAL = 1e-5
_EVAL = "call model.eval() before it is exported, and give state as an input and an output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What the three kinds of files have in common once they are loaded.

    `module` takes tensors in the order of `inputs` and gives whatever the author's forward gives. `graphs` are the
    same network in the forms exporters take, best first: each takes tensors in that order and gives a flat tuple.
    `outputs` and `reference` are what PyTorch itself computes on the samples. `obstacle` says why there is no
    exported program among `graphs`.
    """

    module: Any
    inputs: tuple[TensorSpec, ...]
    graphs: tuple[Any, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    reference: Mapping[str, Array] | None = None
    notes: tuple[str, ...] = ()
    obstacle: str = ""


def settle() -> None:
    """Have PyTorch compute the same on every machine of a kind: one thread, no gradient, deterministic kernels."""
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True, warn_only=True)


def open_specs(
    names: Sequence[str], feeds: Mapping[str, Array], said: Mapping[str, InputShape]
) -> tuple[TensorSpec, ...]:
    """Return the inputs of a file that tells neither shapes nor dtypes: the user's word, else that of the samples.

    Raises:
        ConversionError: neither says anything of an input.
    """
    specs = []
    for name in names:
        array = feeds.get(name, feeds.get(UNNAMED) if len(names) == 1 else None)
        told = said.get(name)
        if array is None and told is None:
            raise ConversionError(
                f"input {name!r}: a file of this kind tells no shapes, and the data has the arrays {sorted(feeds)}",
                hint=f"name the arrays {', '.join(names)}, or the shape: --input {name}:float32:1,N",
            )
        shape = told.shape if told is not None else (1, *(array.shape[1:] if array is not None else ()))
        dtype = (told.dtype if told is not None else "") or (str(array.dtype) if array is not None else "float32")
        specs.append(TensorSpec(name=name, dtype=dtype, shape=shape))
    return tuple(specs)


def samples_of(inputs: Sequence[TensorSpec], feeds: Mapping[str, Array], index: int) -> tuple[Any, ...]:
    """Return one sample's tensors in the order of `inputs`."""
    import torch

    # A copy: the samples are read-only, which torch warns of.
    return tuple(torch.from_numpy(np.array(feeds[spec.name][index])) for spec in inputs)


def flat(network: Any) -> Any:
    """Return a module that gives `network`'s tensors as a flat tuple, for exporters."""
    import torch
    from torch.utils._pytree import tree_leaves

    class Flat(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *values: Any) -> Any:
            return tuple(leaf for leaf in tree_leaves(self.network(*values)) if leaf is not None)

    return Flat().eval()


def _named(result: Any) -> dict[str, Any]:
    """Return the tensors of what forward gave, by name: dict keys and fields, ``output`` and ``output_<i>``.

    Raises:
        ConversionError: something else than a tensor is among them.
    """
    import torch
    from torch.utils._pytree import MappingKey, SequenceKey, tree_flatten_with_path

    leaves, _ = tree_flatten_with_path(result)
    found: dict[str, Any] = {}
    for path, value in leaves:
        parts = []
        for key in path:
            if isinstance(key, MappingKey):
                parts.append(str(key.key))
            elif isinstance(key, SequenceKey):
                parts.append(str(key.idx))
            else:
                parts.append(str(getattr(key, "name", key)))
        name = "_".join(parts)
        name = f"output_{name}" if name[:1].isdigit() else name or "output"
        if value is None:
            continue
        if not isinstance(value, torch.Tensor):
            raise ConversionError(
                f"output {name!r} is of the type {type(value).__name__}: a device gives tensors alone",
                hint="let forward return tensors, or tuples, lists and dicts of them",
            )
        # {"a_b": ..., "a": {"b": ...}}
        while name in found:
            name += "_"
        found[name] = value
    if not found:
        raise ConversionError("forward gives no tensor")
    return found


def with_reference(network: Network, feeds: Mapping[str, Array]) -> tuple[tuple[TensorSpec, ...], dict[str, Array]]:
    """Return the outputs' specs and PyTorch's own values [n, *shape], one sample at a time as on the device.

    Raises:
        ConversionError: it cannot be run, keeps state, draws random numbers, or gives no tensors of a fixed shape.
    """
    count = len(feeds[network.inputs[0].name])
    before = {name: value.clone() for name, value in network.module.state_dict().items() if _is_tensor(value)}
    rows = [_run(network, feeds, i) for i in range(count)]
    again = _run(network, feeds, 0)
    taken = {spec.name for spec in network.inputs}
    specs, values = [], {}
    for name, first in rows[0].items():
        column = [row.get(name) for row in rows]
        if any(value is None or value.shape != first.shape for value in column):
            raise ConversionError(f"output {name!r} changes its shape from sample to sample: a device needs it fixed")
        if str(first.dtype) not in DTYPES:
            raise ConversionError(f"output {name!r} is of type {first.dtype}; known are {', '.join(DTYPES)}")
        if not np.array_equal(first, again[name], equal_nan=first.dtype.kind == "f"):
            raise ConversionError(
                f"output {name!r} is another one when the same sample is given again: "
                "the model keeps state between calls or draws random numbers",
                hint=_EVAL,
            )
        # In a graph, an input and an output are told apart by their names.
        called = f"{name}_output" if name in taken else name
        specs.append(TensorSpec(name=called, dtype=str(first.dtype), shape=first.shape))
        values[called] = np.stack([value for value in column if value is not None])
    for name, value in network.module.state_dict().items():
        if name in before and not _same(before[name], value):
            raise ConversionError(
                f"the model keeps state between calls (buffer {name.partition('.')[2]!r}), "
                "which a conversion would lose",
                hint=_EVAL,
            )
    return tuple(specs), values


def agrees(graph: Any, network: Network, feeds: Mapping[str, Array]) -> bool:
    """Return whether another form of the network gives PyTorch's own outputs, on some of the samples."""
    assert network.reference is not None  # noqa: S101 - asked once they are known
    for index in judged_samples(len(feeds[network.inputs[0].name])):
        values = graph(*samples_of(network.inputs, feeds, index))
        for spec, value in zip(network.outputs, values, strict=True):
            whole = network.reference[spec.name]
            found = _array(spec.name, value)
            if found.dtype != whole.dtype or found.shape != spec.shape:
                return False
            span = float(np.ptp(whole)) if whole.dtype.kind == "f" else 0.0
            if not np.allclose(found, whole[index], rtol=0, atol=_EQUAL * (span or 1.0), equal_nan=True):
                return False
    return True


def _run(network: Network, feeds: Mapping[str, Array], index: int) -> dict[str, Array]:
    try:
        result = network.module(*samples_of(network.inputs, feeds, index))
    except Exception as error:
        shown = ", ".join(str(spec) for spec in network.inputs)
        raise ConversionError(
            f"PyTorch cannot run the model with {shown}: {_last_line(error)}",
            hint="say what it takes with --input NAME:DTYPE:SHAPE, and save the samples like that",
        ) from error
    return {name: _array(name, value) for name, value in _named(result).items()}


def _array(name: str, value: Any) -> Array:
    try:
        array: Array = value.detach().to("cpu").resolve_conj().contiguous().numpy()
    except (TypeError, RuntimeError) as error:
        raise ConversionError(f"output {name!r} is no plain tensor: {first_line(error)}") from error
    return array


def _last_line(error: BaseException) -> str:
    """Return what TorchScript's errors say at their end, below a drawing of the code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in reversed(lines) if line.startswith("RuntimeError: ")), None)
    return told or first_line(error)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _same(first: Any, second: Any) -> bool:
    import torch

    if first.is_floating_point():
        first, second = first.nan_to_num(), second.nan_to_num()
    return bool(torch.equal(first, second))
