"""Forms of operators that onnxruntime computes otherwise than ONNX's own tests: it is no judge of them.

Found by running those tests (``tools/onnx_coverage``) with onnxruntime 1.25.1; 1.26 computes them in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgepack.errors import ConversionError

__all__ = ["refuse_disputed"]


def refuse_disputed(model: Any) -> None:
    """Refuse a model with such an operator.

    Raises:
        ConversionError: there is one; the message names operator and node.
    """
    for node in model.graph.node:
        test = _DISPUTED.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if test is not None and (what := test(node, model.graph)):
            place = node.name or next(iter(node.output), "")
            raise ConversionError(
                f"onnxruntime computes operator {node.op_type!r} (node {place!r}) {what} otherwise than ONNX's own "
                "tests, so there is nothing to compare with",
                hint="replace it by standard operators in the source model",
            )


def _attribute(node: Any, name: str) -> Any:
    import onnx

    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def _attention(node: Any, _: Any) -> str:
    scores = len(node.output) > 3 and node.output[3]
    return "with is_causal and its scores as an output" if scores and _attribute(node, "is_causal") else ""


def _max_unpool(node: Any, _: Any) -> str:
    return "with an output_shape" if len(node.input) > 2 and node.input[2] else ""


def _resize(node: Any, graph: Any) -> str:
    import onnx

    if _attribute(node, "coordinate_transformation_mode") != b"align_corners" or not "".join(node.input[2:3]):
        return ""
    made = (n for n in graph.node if n.op_type == "Constant" and node.input[2] in n.output)
    tensors = [*(i for i in graph.initializer if i.name == node.input[2]), *(_attribute(n, "value") for n in made)]
    scales = [onnx.numpy_helper.to_array(tensor) for tensor in tensors if tensor is not None]
    # Scales that are no constant may be below 1 too.
    return "" if scales and not any((s < 1).any() for s in scales) else "with align_corners and scales below 1"


_DISPUTED: Mapping[str, Callable[[Any, Any], str]] = {
    "Attention": _attention,
    "MaxUnpool": _max_unpool,
    "Resize": _resize,
}
