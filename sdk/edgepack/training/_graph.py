"""Batch normalization folded: multiplied into the weights before it, and left as what adds a bias.

TFLite's converter would do the same later, with another factor for each channel, and pull clusters apart by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgepack.converters._keras_load import flat

__all__ = ["consumers", "fold", "folded", "forward", "graph_of"]

_FOLDABLE = ("Dense", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D")
_SEPARABLE = ("SeparableConv1D", "SeparableConv2D")


def graph_of(model: Any) -> Any:
    """Return the model as a graph of layers, which a Sequential shares with it."""
    import keras

    return keras.Model(model.inputs, model.outputs) if isinstance(model, keras.Sequential) else model


def consumers(graph: Any, layer: Any) -> list[Any]:
    """Return the layers that take what `layer` gives, one for each place."""
    # A Sequential and the graph made of its tensors share layers, whose nodes remember both.
    inside = {id(node) for nodes in graph._nodes_by_depth.values() for node in nodes}
    return [node.operation for node in layer._outbound_nodes if id(node) in inside]


def producers(graph: Any, layer: Any) -> list[Any]:
    """Return the layers whose results `layer` takes, one for each place."""
    nodes = [node for nodes in graph._nodes_by_depth.values() for node in nodes if node.operation is layer]
    return [tensor._keras_history.operation for node in nodes for tensor in node.input_tensors]


def _pairs(graph: Any) -> list[tuple[Any, Any]]:
    """Return each batch normalization with the layer before it that it can be folded into."""
    found = []
    given = {id(tensor._keras_history.operation) for tensor in graph.outputs}
    for norm in graph.layers:
        before = producers(graph, norm) if type(norm).__name__ == "BatchNormalization" else []
        if len(before) != 1 or type(before[0]).__name__ not in (*_FOLDABLE, *_SEPARABLE):
            continue
        layer = before[0]
        linear = getattr(layer.activation, "__name__", "") == "linear"
        alone = len(consumers(graph, layer)) == 1 and len(producers(graph, layer)) == 1 and id(layer) not in given
        last = norm.axis in (-1, len(_scaled(layer).shape) - 1)
        if linear and alone and last and (layer.use_bias or norm.center):
            found.append((norm, layer))
    return found


def _scaled(layer: Any) -> Any:
    """Return the kernel that a normalization behind the layer is multiplied into."""
    return layer.pointwise_kernel if type(layer).__name__ in _SEPARABLE else layer.kernel


def _is_folded(norm: Any) -> bool:
    gamma = np.ones(1) if not norm.scale else norm.gamma.numpy()
    total = norm.moving_variance.numpy() + np.float32(norm.epsilon)
    return bool((gamma == 1).all() and (norm.moving_mean.numpy() == 0).all() and (total == 1).all())


def folded(graph: Any) -> list[Any]:
    """Return the batch normalizations that are folded: they add a bias, and the converter adds it in the same go."""
    return [norm for norm, _ in _pairs(graph) if _is_folded(norm)]


def fold(graph: Any) -> list[Any]:
    """Fold each batch normalization that directly follows a convolution or a dense layer; return them.

    They are frozen too: one that learns would measure its batches again.
    """
    pairs = [(norm, layer) for norm, layer in _pairs(graph) if not _is_folded(norm)]
    for norm, layer in pairs:
        norm.trainable = False
        mean, variance = norm.moving_mean.numpy().astype(np.float64), norm.moving_variance.numpy().astype(np.float64)
        gamma = norm.gamma.numpy().astype(np.float64) if norm.scale else np.ones_like(mean)
        beta = norm.beta.numpy().astype(np.float64) if norm.center else np.zeros_like(mean)
        scale = gamma / np.sqrt(variance + norm.epsilon)
        kernel = _scaled(layer).numpy().astype(np.float64)
        shape = kernel.shape[-2:] if type(layer).__name__.startswith("Depthwise") else kernel.shape[-1:]
        _scaled(layer).assign(kernel * scale.reshape(shape))
        if layer.use_bias:
            layer.bias.assign((layer.bias.numpy() - mean) * scale + beta)
            beta, mean = np.zeros_like(beta), np.zeros_like(mean)
        if norm.center:
            norm.beta.assign(beta - mean * scale)
        if norm.scale:
            norm.gamma.assign(np.ones_like(gamma))
        norm.moving_mean.assign(np.zeros_like(mean))
        norm.moving_variance.assign(np.full_like(mean, _one_less(norm.epsilon)))
    return [norm for norm, _ in pairs]


def _one_less(epsilon: float) -> np.float32:
    """Return the variance that is exactly 1 with `epsilon` added, in float32."""
    value = np.float32(1) - np.float32(epsilon)
    for other in (value, np.nextafter(value, np.float32(2)), np.nextafter(value, np.float32(0))):
        if other + np.float32(epsilon) == np.float32(1):
            return np.float32(other)
    raise AssertionError(f"no float32 is 1 with {epsilon} added")


def forward(
    graph: Any, values: Sequence[Any], special: Mapping[int, Callable[..., Any]], *, training: bool
) -> list[Any]:
    """Return the graph's outputs, in order.

    Args:
        graph: the model.
        values: one batch of each input, in order.
        special: how single layers are computed instead, by `id` of the layer.
        training: whether dropout drops and batch normalization learns.
    """

    def of(layer: Any) -> Callable[..., Any]:
        if id(layer) in special:
            return special[id(layer)]
        if not getattr(layer, "_call_has_training_arg", False):
            return layer  # type: ignore[no-any-return]
        return lambda *args, **kwargs: layer(*args, **{**kwargs, "training": training})

    return flat(graph._run_through_graph(list(values), of))
