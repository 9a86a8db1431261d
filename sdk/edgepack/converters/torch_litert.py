"""PyTorch to TFLite in one step, by litert-torch: through StableHLO, in the source's layout."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from edgepack.converters._interface import in_order, refuse_foreign_operators, signature_entries, with_signature
from edgepack.converters._options import first_line, read_options
from edgepack.converters._parity import check_interface
from edgepack.converters._torch import Network
from edgepack.converters._torch_sources import load
from edgepack.errors import ConversionError
from edgepack.model import Conversion, ConversionRequest

__all__ = ["FORMATS", "ROAD", "TOOLCHAIN", "Options", "convert"]

FORMATS = ("torchscript", "torch_export", "torch_state")
ROAD = "litert-torch"
TOOLCHAIN = "torch-litert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`inputs` say what a file does not, as ``NAME:DTYPE:SHAPE``; `max_difference` is read by the build."""

    inputs: tuple[str, ...] = ()
    max_difference: float = 1e-4


def convert(request: ConversionRequest) -> Conversion:
    """Return the network as float TFLite, and PyTorch's own outputs on the samples.

    Raises:
        ConversionError: it cannot be loaded or run, or litert-torch lacks one of its operators.
        DatasetError: the samples do not fit its inputs.
        RecipeError: an option is unknown.
    """
    options = read_options(Options, request.options)
    network = load(request, options.inputs)
    tflite = _converted(network, request)
    refuse_foreign_operators(tflite)
    found_inputs, found_outputs = signature_entries(tflite)
    inputs = in_order([(f"args_{i}", spec.name) for i, spec in enumerate(network.inputs)], found_inputs, "input")
    outputs = in_order(
        [(f"output_{i}", spec.name) for i, spec in enumerate(network.outputs)], found_outputs, "output"
    )
    tflite = with_signature(tflite, inputs, outputs)
    _check_interface(tflite, network)
    return Conversion(
        tflite=tflite,
        inputs=network.inputs,
        outputs=network.outputs,
        reference=network.reference or {},
        tool=f"litert-torch {version('litert-torch')}",
        notes=network.notes,
    )


def _check_interface(tflite: bytes, network: Network) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tflite)
    check_interface(interpreter, network.inputs)
    for spec, detail in zip(network.outputs, interpreter.get_output_details(), strict=True):
        found = f"{np.dtype(detail['dtype'])}{[int(d) for d in detail['shape']]}"
        if found != f"{spec.dtype}{list(spec.shape)}":
            raise ConversionError(
                f"output {spec.name!r} became {found}, the source gives {spec.dtype}{list(spec.shape)}"
            )


def _converted(network: Network, request: ConversionRequest) -> bytes:
    import litert_torch
    import torch

    sample = tuple(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in network.inputs)
    path = request.scratch / "model.tflite"
    said: list[str] = []
    for graph in network.graphs:
        if isinstance(graph, torch.jit.ScriptModule):
            continue
        try:
            litert_torch.convert(graph, sample).export(str(path))
        except Exception as error:  # noqa: BLE001 - three tools' own exceptions; the next form may work
            said.append(_reason(error))
        else:
            return path.read_bytes()
    raise ConversionError(
        f"litert-torch cannot convert the network: {'; '.join(dict.fromkeys(said)) or network.obstacle}",
        hint="replace the operator named by standard ones in the source model",
    )


def _reason(error: BaseException) -> str:
    text = first_line(error)
    _, _, legalize = text.partition("failed to legalize operation ")
    return f"no TFLite operator for {legalize.split(chr(39))[1]}" if legalize.count("'") > 1 else text
