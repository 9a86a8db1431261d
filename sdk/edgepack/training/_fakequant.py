"""Rounding as an int8 model has it, in a float model that learns: the gradient passes it as if it were not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edgepack.training._graph import consumers, folded, forward
from edgepack_runtime.tensors import Array

__all__ = ["Quantized"]

_WEIGHTED = [
    "Dense",
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Conv1DTranspose",
    "Conv2DTranspose",
    "SeparableConv1D",
    "SeparableConv2D",
]
_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")
# What passes numbers on as they are: TFLite gives the result the range of what went in.
_MOVING = frozenset(
    [
        "InputLayer",
        "Flatten",
        "Reshape",
        "Permute",
        "Dropout",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "GaussianNoise",
        "GaussianDropout",
        "MaxPooling1D",
        "MaxPooling2D",
        "GlobalMaxPooling1D",
        "GlobalMaxPooling2D",
        "ZeroPadding1D",
        "ZeroPadding2D",
        "Cropping1D",
        "Cropping2D",
        "RepeatVector",
        "Identity",
    ]
)
# What a TFLite operator does in the same go.
_FUSED = ("linear", "relu", "relu6")
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "MultiHeadAttention", "GroupQueryAttention", "EinsumDense", "Embedding")
_MOMENTUM = 0.99


def _activation(layer: Any) -> str:
    """Return the activation that a layer ends with, ``linear`` for none."""
    if type(layer).__name__ == "ReLU":
        return "relu" if layer.max_value in (None, 6) and not layer.negative_slope else "leaky"
    return getattr(getattr(layer, "activation", None), "__name__", "linear")


class Quantized:
    """A graph whose weights and results are rounded: how its layers are computed, and the ranges met.

    `layers` are those with rounded weights, `float_layers` those whose inside is not known here.
    """

    def __init__(self, graph: Any, bits: tuple[int, int], *, per_channel: bool) -> None:
        self.graph = graph
        self.weight_bits, self.activation_bits = bits
        self.per_channel = per_channel
        self.folded = {id(norm) for norm in folded(graph)}
        self.layers = [layer for layer in graph.layers if type(layer).__name__ in _WEIGHTED]
        self.float_layers = [layer.name for layer in graph.layers if type(layer).__name__ in _RECURRENT]
        self.ranges: dict[str, Any] = {}
        self._ends: dict[int, Callable[[Any], Any]] = {}

    @contextmanager
    def activations_apart(self) -> Iterator[None]:
        """Take those activations out of their layers that are operators of their own: their inputs are rounded."""
        for layer in self.layers:
            if _activation(layer) not in _FUSED:
                self._ends[id(layer)] = layer.activation
                layer.activation = _linear
        try:
            yield
        finally:
            for layer in self.layers:
                if id(layer) in self._ends:
                    layer.activation = self._ends.pop(id(layer))

    def calibrate(self, feeds: Sequence[Array]) -> None:
        """Begin the ranges with what these samples give."""
        import tensorflow as tf

        with self.activations_apart():
            for i in range(0, len(feeds[0]), 32):
                values = [tf.constant(array[i : i + 32]) for array in feeds]
                entered = [self.entering(n, value, training=None) for n, value in enumerate(values)]
                forward(self.graph, entered, self.special(training=None), training=False)

    def entering(self, index: int, value: Any, *, training: bool | None) -> Any:
        """Return an input of the model, rounded."""
        return self._rounded(f"input {index}", value, training) if value.dtype.is_floating else value

    def special(self, *, training: bool | None) -> dict[int, Callable[..., Any]]:
        """Return how each layer is computed, for `forward`; while `training` is None ranges are only looked for."""
        return {
            id(layer): self._computed(layer, training)
            for layer in self.graph.layers
            if type(layer).__name__ not in _MOVING
        }

    def _computed(self, layer: Any, training: bool | None) -> Callable[..., Any]:
        rounds = self._rounds(layer)

        def run(*args: Any, **kwargs: Any) -> Any:
            value = self._plain(layer, training, args, kwargs)
            if id(layer) in self._ends:
                value = self._ends[id(layer)](self._rounded(f"{layer.name} before its activation", value, training))
            if not rounds or not hasattr(value, "dtype") or not value.dtype.is_floating:
                return value
            return self._rounded(layer.name, value, training)

        return run

    def _rounds(self, layer: Any) -> bool:
        """Return whether what a layer gives is rounded: not if the next operator is computed in the same go.

        Nor if it is what the model gives: rounded shares of classes have no gradient to learn from.
        """
        if any(tensor._keras_history.operation is layer for tensor in self.graph.outputs):
            return False
        takers = consumers(self.graph, layer)
        if len(takers) != 1 or _activation(layer) != "linear":
            return True
        fused = type(takers[0]).__name__ in ("Activation", "ReLU") and _activation(takers[0]) in _FUSED
        return not fused and id(takers[0]) not in self.folded

    def _plain(self, layer: Any, training: bool | None, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        import keras

        if getattr(layer, "_call_has_training_arg", False):
            kwargs = {**kwargs, "training": bool(training)}
        if layer not in self.layers:
            return layer(*args, **kwargs)
        values = [v for v in layer._trainable_variables if v.name in _KERNELS]
        with keras.StatelessScope(state_mapping=[(v, self._weights(layer, v)) for v in values]):
            return layer(*args, **kwargs)

    def _weights(self, layer: Any, variable: Any) -> Any:
        import tensorflow as tf

        kernel, kind = variable.value, type(layer).__name__
        axes = list(range(len(kernel.shape)))
        if variable.name == "depthwise_kernel" or kind.startswith("Depthwise"):
            axes = axes[:-2]
        elif kind.endswith("Transpose"):
            axes.remove(len(axes) - 2)
        elif kind != "Dense" or self.per_channel:
            axes = axes[:-1]
        most = float(2 ** (self.weight_bits - 1) - 1)
        scale = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(kernel), axes, keepdims=True) / most, 1e-12))
        return kernel + tf.stop_gradient(tf.clip_by_value(tf.round(kernel / scale), -most, most) * scale - kernel)

    def _rounded(self, name: str, value: Any, training: bool | None) -> Any:
        import tensorflow as tf

        if self.activation_bits == 0:
            return value
        if name not in self.ranges:
            self.ranges[name] = (tf.Variable(0.0, trainable=False), tf.Variable(0.0, trainable=False))
        low, high = self.ranges[name]
        if training is not False:
            least, most = tf.minimum(tf.reduce_min(value), 0.0), tf.maximum(tf.reduce_max(value), 0.0)
            if training is None:
                low.assign(tf.minimum(low, least))
                high.assign(tf.maximum(high, most))
                return value
            low.assign(_MOMENTUM * low + (1 - _MOMENTUM) * tf.stop_gradient(least))
            high.assign(_MOMENTUM * high + (1 - _MOMENTUM) * tf.stop_gradient(most))
        steps = float(2**self.activation_bits - 1)
        scale = tf.maximum((high - low) / steps, 1e-9)
        zero = tf.round(-low / scale)
        inside = tf.clip_by_value(value, -zero * scale, (steps - zero) * scale)
        return inside + tf.stop_gradient((tf.round(inside / scale + zero) - zero) * scale - inside)


def _linear(value: Any) -> Any:
    return value


_linear.__name__ = "linear"
