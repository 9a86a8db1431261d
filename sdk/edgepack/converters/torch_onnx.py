"""PyTorch to ONNX, by PyTorch's own exporter; the roads of ONNX go on from there.

The network comes as an exported program wherever PyTorch can make one, and that is traced: it has no branch left that
a trace could lose. A TorchScript file of which it can make none is exported as it is, with its branches and loops.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.converters._options import first_line, read_options
from edgepack.converters._torch import Network
from edgepack.converters._torch_sources import load
from edgepack.errors import ConversionError
from edgepack.model import ConversionRequest, Export

__all__ = ["FORMATS", "ROAD", "THEN", "TOOLCHAIN", "Options", "export"]

FORMATS = ("torchscript", "torch_export", "torch_state")
ROAD = "torch-onnx"
THEN = "onnx"
TOOLCHAIN = "torch"
# The last one with all that this exporter writes; onnx2tf and onnx-tf know it.
_OPSET = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`inputs` say what a file does not, as ``NAME:DTYPE:SHAPE``; `max_difference` is for the roads of ONNX."""

    inputs: tuple[str, ...] = ()
    max_difference: float = 1e-4


def export(request: ConversionRequest) -> Export:
    """Return the network as ONNX, and PyTorch's own outputs on the samples.

    Raises:
        ConversionError: it cannot be loaded or run, or ONNX lacks one of its operators.
        DatasetError: the samples do not fit its inputs.
        RecipeError: an option is unknown.
    """
    import torch

    options = read_options(Options, request.options)
    network = load(request, options.inputs)
    said: list[str] = []
    for i, graph in enumerate(network.graphs):
        path = request.scratch / f"graph-{i}.onnx"
        try:
            _write(graph, network, path)
        except Exception as error:  # noqa: BLE001 - the exporter's own exceptions; the next form may work
            said.append(_reason(error))
            continue
        return Export(
            model=path.read_bytes(),
            inputs=network.inputs,
            outputs=network.outputs,
            reference=network.reference or {},
            tool=f"torch {torch.__version__}",
            notes=network.notes,
        )
    raise ConversionError(
        f"PyTorch cannot write the network as ONNX: {'; '.join(dict.fromkeys(said))}",
        hint="replace the operator named by standard ones in the source model",
    )


def _write(graph: Any, network: Network, path: Path) -> None:
    import torch

    sample = tuple(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in network.inputs)
    torch.onnx.export(
        graph,
        sample,
        str(path),
        # The other exporter needs onnxscript and 3 to 10 s more, and gave the same graphs wherever both were tried.
        dynamo=False,
        opset_version=_OPSET,
        input_names=[spec.name for spec in network.inputs],
        output_names=[spec.name for spec in network.outputs],
    )


def _reason(error: BaseException) -> str:
    operator = re.search(r"operator '([\w:.]+)'", str(error))
    return f"opset {_OPSET} has no form of the operator {operator[1]!r}" if operator else first_line(error)
