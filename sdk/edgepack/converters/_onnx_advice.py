"""What to say of an ONNX operator that a road cannot convert: which node it is, and what to do instead."""

from __future__ import annotations

from typing import Any

from edgepack.errors import ConversionError

__all__ = ["advice", "cannot", "refuse_unknown"]

_BEFORE = "compute it before the model, and give the model its result"
_BEHIND = "let the model end before it, and compute it from the outputs"
_GROUPS = (
    (("DFT", "STFT", "MelWeightMatrix"), f"{_BEFORE}; or write it as MatMul with the window's basis"),
    (("ImageDecoder", "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"), _BEFORE),
    (("TfIdfVectorizer", "LabelEncoder"), _BEFORE),
    (("NonMaxSuppression", "Unique", "NonZero", "Compress"), f"{_BEHIND}: how much it gives depends on the data"),
    (("GridSample", "DeformConv", "RoiAlign", "MaxRoiPool", "Col2Im", "MaxUnpool"), _BEHIND),
    (("Multinomial", "Bernoulli"), "let the model give the probabilities, and draw from them outside"),
    (
        ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        "make the random numbers an input of the model",
    ),
    (("If", "Loop", "Scan"), "export the model for one fixed shape, which removes most of them"),
    (("LSTM", "GRU", "RNN"), "export it with a fixed length, without sequence_lens, in float32"),
    (
        ("Reshape", "Expand", "Tile", "Range", "ConstantOfShape", "Pad", "Slice", "Resize", "Squeeze", "Unsqueeze"),
        "export the model with fixed shapes: what this operator asks for is a constant then",
    ),
)
_ADVICE = {operator: text for operators, text in _GROUPS for operator in operators}
_OTHERWISE = "replace it by standard operators in the source model, or export with another opset"


def advice(operator: str) -> str:
    """Return the way out for a model with `operator`."""
    return _ADVICE.get(operator, _OTHERWISE)


def cannot(tool: str, model: Any, told: str, why: str = "") -> ConversionError:
    """Return the error that says that `tool` cannot convert an operator of `model`, where, and what to do.

    Args:
        tool: the road.
        model: what it was given.
        told: the operator, in any case, or the name of the node, as the tool says it.
        why: what it says of it.
    """
    named = [node for node in model.graph.node if node.name == told]
    node = next(iter(named or [n for n in model.graph.node if n.op_type.upper() == told.upper()]), None)
    operator = told if node is None else str(node.op_type)
    # The first output is what a viewer shows of a node without a name.
    place = "" if node is None else node.name or next(iter(node.output), "")
    shown = f" (node {place!r})" if place else ""
    reason = f": {why}" if why else ""
    return ConversionError(f"{tool} cannot convert operator {operator!r}{shown}{reason}", hint=advice(operator))


def refuse_unknown(model: Any) -> None:
    """Refuse a model with an operator that is in no standard, once onnxruntime would not load it.

    Raises:
        ConversionError: there is one; the message names it and its node.
    """
    import onnx

    own = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        if not onnx.defs.has(node.op_type, node.domain) and (node.domain, node.op_type) not in own:
            operator = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
            place = node.name or next(iter(node.output), "")
            raise ConversionError(
                f"the model needs the operator {operator!r} (node {place!r}), which neither the ONNX standard nor "
                "onnxruntime has",
                hint="replace it by standard operators in the source model, or export it as a function of them",
            )
