"""The three kinds of PyTorch files: TorchScript, exported programs and state dicts; no object is unpickled."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepack.converters._options import check_dtypes, check_shape_names, first_line, fixed_shape, named_inputs
from edgepack.converters._torch import Network, agrees, flat, open_specs, samples_of, settle, with_reference
from edgepack.converters._torch_archive import harmless_export, pickled_members, plain_copy, refuse_file_access
from edgepack.dataset import bind_feeds
from edgepack.errors import ConversionError
from edgepack.model import ConversionRequest
from edgepack.source import detect
from edgepack_runtime.tensors import DTYPES, TensorSpec

__all__ = ["load"]

# Where training scripts put the state dict when they save more than that.
_INSIDE = ("state_dict", "model_state_dict", "model", "net", "weights")
# What wrappers put before every name: DataParallel, torch.compile, Lightning.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
_OWN_MODULE = "edgepack_user_module"


def load(request: ConversionRequest, inputs: tuple[str, ...]) -> Network:
    """Return the network of any PyTorch file, with PyTorch's own outputs on the samples.

    Args:
        request: its source, samples, and the user's own module for a state dict.
        inputs: what the user says of inputs, see `named_inputs`.

    Raises:
        ConversionError: it cannot be loaded, followed or run, or is no network for a device.
        DatasetError: the samples do not fit its inputs.
        RecipeError: `inputs` is not understood.
    """
    settle()
    loaders = {"torchscript": _script, "torch_export": _exported, "torch_state": _state}
    kind = detect(request.source).format
    if kind != "torch_state" and request.module is not None:
        raise ConversionError(
            f"{request.source.name} carries its own network: --module is for a state dict", hint="leave --module out"
        )
    network = loaders[kind](request, inputs)
    check_shape_names(dict.fromkeys(named_inputs(inputs), ()), [spec.name for spec in network.inputs])
    check_dtypes(inputs, network.inputs)
    for spec in network.inputs:
        if spec.dtype not in DTYPES:
            raise ConversionError(f"input {spec.name!r} is of type {spec.dtype}; known are {', '.join(DTYPES)}")
    feeds = bind_feeds(request.feeds, network.inputs, "calibration data")
    outputs, reference = with_reference(network, feeds)
    network = replace(network, outputs=outputs, reference=reference)
    if network.graphs:
        return network
    if kind == "torchscript":
        return _with_script_graphs(network, feeds)
    return replace(network, graphs=(_followed(network, feeds),))


def _script(request: ConversionRequest, inputs: tuple[str, ...]) -> Network:
    import torch

    copy = plain_copy(request.source, request.scratch)
    refuse_file_access(copy)
    try:
        script = torch.jit.load(str(copy), map_location="cpu").eval()
        arguments = script.forward.schema.arguments[1:]
    except Exception as error:
        raise ConversionError(f"PyTorch cannot load the TorchScript file: {first_line(error)}") from error
    said = named_inputs(inputs)
    names = []
    for argument in arguments:
        kind = str(argument.type)
        if kind == "Tensor" or ("Tensor" in kind and (argument.name in said or argument.name in request.feeds)):
            names.append(argument.name)
        elif not argument.has_default_value():
            raise ConversionError(
                f"forward takes {argument.name!r} as {kind}: a device gives tensors alone",
                hint="wrap the network in a module whose forward takes tensors, and script that",
            )
    return Network(module=_by_name(script, names), inputs=open_specs(names, request.feeds, said))


def _by_name(network: Any, names: Sequence[str]) -> Any:
    """Return a module that hands its tensors on by name, because arguments between them may be left out."""
    import torch

    class ByName(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *values: Any) -> Any:
            return self.network(**dict(zip(names, values, strict=True)))

    return ByName().eval()


def _with_script_graphs(network: Network, feeds: Mapping[str, Any]) -> Network:
    """Return it with the script as an exported program, if PyTorch can make one of it, and as the script itself."""
    import torch
    from torch._export.converter import TS2EPConverter

    script = network.module.network
    sample = samples_of(network.inputs, feeds, 0)
    try:
        made = flat(_callable(TS2EPConverter(script, sample, {}).convert()))
        # Exported again: the converter leaves hooks behind that a trace cannot pass.
        graph = flat(_callable(torch.export.export(made, sample, strict=False)))
        same = agrees(graph, network, feeds)
    except ConversionError as error:
        return replace(network, graphs=(script,), obstacle=error.message)
    except Exception as error:  # noqa: BLE001 - the converter's own exceptions; the script itself may still do
        return replace(network, graphs=(script,), obstacle=f"PyTorch cannot follow the script: {first_line(error)}")
    if not same:
        return replace(network, graphs=(script,), obstacle="followed by PyTorch, the script computes something else")
    return replace(network, graphs=(graph, script))


def _exported(request: ConversionRequest, inputs: tuple[str, ...]) -> Network:
    import torch

    copy = harmless_export(request.source, request.scratch)
    for pickled in pickled_members(copy):
        try:
            torch.load(io.BytesIO(pickled), map_location="cpu", weights_only=True)
        except Exception as error:
            raise ConversionError(
                f"the exported program holds a pickled object that is no tensor: {first_line(error)}"
            ) from error
    try:
        program = torch.export.load(copy)
    except Exception as error:
        raise ConversionError(
            f"PyTorch {torch.__version__} cannot load the exported program: {first_line(error)}",
            hint="export it again where its code is, with that version of PyTorch or one near it",
        ) from error
    mutated = program.graph_signature.buffers_to_mutate
    if mutated:
        raise ConversionError(
            f"the model keeps state between calls (buffer {next(iter(mutated.values()))!r}), "
            "which a conversion would lose",
            hint="call model.eval() before torch.export.export, and give state as an input and an output",
        )
    shapes = {name: told.shape for name, told in named_inputs(inputs).items()}
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    specs = []
    for name in program.graph_signature.user_inputs:
        value = values.get(name) if isinstance(name, str) else None
        if not isinstance(value, torch.Tensor):
            raise ConversionError(
                f"input {name!r} of the exported program is no tensor",
                hint="export a module whose forward takes tensors alone",
            )
        dimensions = [d if isinstance(d, int) else None for d in value.shape]
        specs.append(
            TensorSpec(
                name=name,
                dtype=str(value.dtype).removeprefix("torch."),
                shape=fixed_shape(name, dimensions, shapes),
            )
        )
    module = _callable(program)
    if any(not isinstance(d, int) for value in values.values() for d in getattr(value, "shape", ())):
        # Followed once more, with the shapes that were settled: a trace does not know open ones.
        return Network(module=module, inputs=tuple(specs))
    return Network(module=module, inputs=tuple(specs), graphs=(flat(module),))


def _callable(program: Any) -> Any:
    """Return an exported program as a module that takes its tensors in order, whatever they were nested in."""
    import torch
    from torch.utils._pytree import tree_unflatten

    for node in program.graph.nodes:
        # Traced, a branch would leave of its two the one that the sample took.
        if isinstance(node.target, torch._ops.HigherOrderOperator) and not node.name.startswith("wrap_with_"):
            raise ConversionError(
                f"the model decides while it runs ({node.target.name()}), which no road takes",
                hint="compute both branches and choose with torch.where, or export each as a model of its own",
            )
    # A batch of 1 is outside the range of a program that was exported with a larger one, and computes the same.
    graph = program.module(check_guards=False)
    # The exporters switch modes, and a program has none.
    graph.train = graph.eval = lambda *_: graph
    layout = program.call_spec.in_spec

    class Program(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            # Not `graph`: a module made by torch.fx has its own of that name.
            self.program = graph

        def train(self, mode: bool = True) -> Any:
            return self

        def forward(self, *values: Any) -> Any:
            positional, named = tree_unflatten(values, layout)
            return self.program(*positional, **named)

    return Program()


def _state(request: ConversionRequest, inputs: tuple[str, ...]) -> Network:
    if request.module is None:
        raise ConversionError(f"{request.source.name} is a state dict: weights without a network (--module)")
    network, notes = _built(request.module, request.entry)
    state, inside = _state_dict(request.source)
    state, without = _unwrapped(state, network)
    try:
        network.load_state_dict(state, strict=True)
    except Exception as error:
        raise ConversionError(
            f"the state dict does not fit {request.module.name}:{request.entry}: {_mismatch(state, network, error)}"
        ) from error
    network = network.to("cpu").eval()
    names = _parameters(network, request.feeds, named_inputs(inputs))
    return Network(
        module=_by_name(network, names),
        inputs=open_specs(names, request.feeds, named_inputs(inputs)),
        notes=(notes, *inside, *without),
    )


def _built(path: Path, entry: str) -> tuple[Any, str]:
    """Return the network that the user's own code builds, and what to say of it."""
    import torch

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = importlib.util.spec_from_file_location(_OWN_MODULE, path)
    if spec is None or spec.loader is None:
        raise ConversionError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_OWN_MODULE] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise ConversionError(
            f"{path.name} imports {error.name!r}, which is not there when it runs",
            hint="it has to stand alone: one file that imports torch, numpy and the standard library",
        ) from error
    except Exception as error:
        raise ConversionError(f"{path.name} fails when it is imported: {first_line(error)}") from error
    build = getattr(module, entry, None)
    if build is None:
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == _OWN_MODULE]
        raise ConversionError(f"{path.name} has no {entry!r}; it defines {', '.join(own) or 'nothing'}")
    try:
        network = build if isinstance(build, torch.nn.Module) else build()
    except Exception as error:
        raise ConversionError(
            f"{entry}() of {path.name} fails: {first_line(error)}",
            hint="where the network needs arguments, write a function without any that returns it, and name that",
        ) from error
    if not isinstance(network, torch.nn.Module):
        raise ConversionError(f"{entry}() of {path.name} gives a {type(network).__name__}, not a torch.nn.Module")
    return network, f"the network was built by the user's own code: {path.name}:{entry}, SHA-256 {digest}"


def _state_dict(path: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConversionError(
            f"{path.name} is no plain state dict: {first_line(error)}",
            hint="save the state dict alone: torch.save(model.state_dict(), 'net.pth')",
        ) from error
    if _is_state(state):
        return state, ()
    found = [key for key in _INSIDE if isinstance(state, dict) and _is_state(state.get(key))]
    if len(found) != 1:
        raise ConversionError(
            f"{path.name} holds no state dict, and not one of {', '.join(_INSIDE)} in a dict",
            hint="save the state dict alone: torch.save(model.state_dict(), 'net.pth')",
        )
    return state[found[0]], (f"the state dict was found under {found[0]!r}",)


def _is_state(value: Any) -> bool:
    import torch

    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) for k in value)
        and any(isinstance(v, torch.Tensor) for v in value.values())
    )


def _unwrapped(state: Mapping[str, Any], network: Any) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return the state dict without what a wrapper put before every name, where only that makes it fit."""
    wanted = set(network.state_dict())
    if wanted & state.keys():
        return state, ()
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            bare = {name.removeprefix(prefix): value for name, value in state.items()}
            if wanted & bare.keys():
                return bare, (f"{prefix!r} was taken off the names in the state dict",)
    return state, ()


def _mismatch(state: Mapping[str, Any], network: Any, error: Exception) -> str:
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in state]
    unknown = [name for name in state if name not in wanted]
    other = [
        f"{name} is {list(state[name].shape)}, the network's {list(value.shape)}"
        for name, value in wanted.items()
        if hasattr(state.get(name), "shape") and hasattr(value, "shape") and state[name].shape != value.shape
    ]
    parts = [f"it lacks {', '.join(missing[:3])}"] if missing else []
    parts += [f"the network lacks {', '.join(unknown[:3])}"] if unknown else []
    return "; ".join(parts + other[:3]) or first_line(error)


def _parameters(network: Any, feeds: Mapping[str, Any], said: Mapping[str, Any]) -> list[str]:
    names = []
    for parameter in inspect.signature(network.forward).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ConversionError(
                f"forward takes {parameter}: inputs need names",
                hint="write a function that returns a module whose forward names its tensors",
            )
        if parameter.default is parameter.empty or parameter.name in feeds or parameter.name in said:
            names.append(parameter.name)
    if not names:
        raise ConversionError("forward takes no tensor")
    return names


def _followed(network: Network, feeds: Mapping[str, Any]) -> Any:
    """Return the user's network as an exported program: unlike a trace, it refuses what depends on values."""
    import torch

    try:
        program = torch.export.export(network.module, samples_of(network.inputs, feeds, 0), strict=False)
    except Exception as error:
        raise ConversionError(
            f"torch.export cannot follow the network: {first_line(error)}",
            hint="a branch or a loop that depends on values has no place in a graph: use torch.where, "
            "or give its condition as an input",
        ) from error
    return flat(_callable(program))
