"""The float networks of the matrix, and what TensorFlow's own converter makes of them (runs under TensorFlow 2.19).

    python -m tools.prediction_matrix.networks FOLDER

Weights are -1, 0 or 1 times a factor of their output channel, between 0.2 and 2.5. Quantizing them by channel loses
next to nothing, in int8 or in int2, and a kernel that mixes the channels' factors up cannot hide.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = 12
Network = tuple[Callable[..., Any], tuple[int | None, ...]]


def samples(name: str) -> Any:
    """Return the inputs of a network, the same in every run: [n, *shape]."""
    rng = np.random.default_rng(sum(map(ord, name)))
    shape = tuple(1 if d is None else d for d in NETWORKS[name][1])
    if name == "embedding":
        return rng.integers(0, 40, size=(SAMPLES, *shape)).astype(np.int32)
    return rng.normal(size=(SAMPLES, *shape)).astype(np.float32)


class _Weights:
    """Seeded constants of one network."""

    def __init__(self, tf: Any, name: str) -> None:
        self._tf = tf
        self._rng = np.random.default_rng(1000 + sum(map(ord, name)))

    def __call__(self, *shape: int, channel: int = -1, gain: float = 1.0) -> Any:
        values = self._rng.integers(-1, 2, size=shape).astype(np.float32)
        fan_in = values.size / shape[channel]
        factors = self._rng.permutation(np.geomspace(0.2, 2.5, shape[channel])).astype(np.float32)
        along = [1] * len(shape)
        along[channel] = shape[channel]
        return self._tf.constant(gain * values * factors.reshape(along) / np.sqrt(fan_in).astype(np.float32))

    def bias(self, count: int) -> Any:
        return self._tf.constant(self._rng.normal(scale=0.1, size=count).astype(np.float32))


def _mlp(tf: Any, w: _Weights) -> Callable[[Any], Any]:
    first, second, third = w(64, 64), w(64, 32), w(32, 10)
    biases = w.bias(64), w.bias(32)

    def run(x: Any) -> Any:
        y = tf.nn.relu(tf.matmul(x, first) + biases[0])
        y = tf.nn.relu(tf.matmul(y, second) + biases[1])
        return tf.matmul(y, third)

    return run


def _conv(tf: Any, w: _Weights) -> Callable[[Any], Any]:
    first, spread = w(3, 3, 4, 32), w(3, 3, 32, 1, channel=2)
    second, dense = w(1, 1, 32, 32), w(128, 8)

    def run(x: Any) -> Any:
        y = tf.nn.relu(tf.nn.conv2d(x, first, 2, "SAME"))
        y = tf.nn.relu6(tf.nn.depthwise_conv2d(y, spread, (1, 1, 1, 1), "SAME"))
        y = tf.nn.max_pool2d(tf.nn.conv2d(y, second, 1, "SAME"), 2, 2, "VALID")
        return tf.matmul(tf.reshape(y, (1, 128)), dense)

    return run


def _grouped(tf: Any, w: _Weights) -> Callable[[Any], Any]:
    first, second, head = w(3, 3, 8, 32), w(3, 3, 8, 32), w(32, 6)

    def run(x: Any) -> Any:
        y = tf.nn.relu(tf.nn.conv2d(x, first, 1, "SAME"))
        y = y + tf.nn.conv2d(y, second, 1, "SAME")
        return tf.matmul(tf.reduce_mean(y, (1, 2)), head)

    return run


def _upsample(tf: Any, w: _Weights) -> Callable[[Any], Any]:
    first, up = w(3, 3, 4, 32), w(3, 3, 4, 32, channel=2)

    def run(x: Any) -> Any:
        y = tf.nn.relu(tf.nn.conv2d(x, first, 1, "SAME"))
        y = tf.nn.conv2d_transpose(y, up, (1, 16, 16, 4), 2, "SAME")
        return tf.image.resize(tf.nn.sigmoid(y), (8, 8), method="bilinear")

    return run


def _attention(tf: Any, w: _Weights) -> Callable[[Any], Any]:
    q, k, v, out = w(32, 32), w(32, 32), w(32, 32), w(32, 32)

    def run(x: Any) -> Any:
        mean = tf.reduce_mean(x, -1, keepdims=True)
        y = (x - mean) * tf.math.rsqrt(tf.reduce_mean(tf.math.squared_difference(x, mean), -1, keepdims=True) + 1e-5)
        scores = tf.nn.softmax(tf.matmul(tf.matmul(y, q), tf.matmul(y, k), transpose_b=True) * 0.18)
        return x + tf.nn.gelu(tf.matmul(tf.matmul(scores, tf.matmul(y, v)), out), approximate=True)

    return run


def _embedding(tf: Any, w: _Weights) -> Callable[[Any], Any]:
    table, head = w(40, 32, channel=0), w(192, 8)

    def run(x: Any) -> Any:
        return tf.matmul(tf.reshape(tf.gather(table, x), (1, 192)), head)

    return run


def _cell(tf: Any, w: _Weights) -> Callable[..., Any]:
    from_input, from_state, biases = w(16, 128), w(32, 128), w.bias(128)

    def step(x: Any, h: Any, c: Any) -> Any:
        i, f, g, o = tf.split(tf.matmul(x, from_input) + tf.matmul(h, from_state) + biases, 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c

    return step


def _lstm(tf: Any, w: _Weights) -> Callable[[Any], Any]:
    step, head = _cell(tf, w), w(32, 8)

    def run(x: Any) -> Any:
        h = c = tf.zeros((1, 32))
        for t in range(6):
            h, c = step(x[:, t], h, c)
        return tf.matmul(h, head)

    return run


def _loop(tf: Any, w: _Weights) -> Callable[[Any], Any]:
    step, head = _cell(tf, w), w(32, 8)

    def run(x: Any) -> Any:
        def body(t: Any, h: Any, c: Any) -> Any:
            return t + 1, *step(x[:, t], h, c)

        start = (tf.constant(0), tf.zeros((1, 32)), tf.zeros((1, 32)))
        return tf.matmul(tf.while_loop(lambda t, _h, _c: t < 6, body, start)[1], head)

    return run


def _batch(tf: Any, w: _Weights) -> Callable[[Any], Any]:
    first, second = w(32, 48), w(48, 6)
    return lambda x: tf.nn.softmax(tf.matmul(tf.nn.tanh(tf.matmul(x, first)), second))


def _ratio(tf: Any, w: _Weights) -> Callable[[Any], Any]:
    first, second = w(32, 32), w(32, 8)

    def run(x: Any) -> Any:
        y = tf.abs(tf.matmul(x, first)) + 0.5
        z = tf.transpose(tf.reshape(tf.sqrt(y) / (y + 2.0), (1, 2, 2, 2, 4)), (0, 2, 1, 4, 3))
        return tf.matmul(tf.reshape(z, (1, 32)), second)

    return run


def _signature(tf: Any, name: str) -> list[Any]:
    return [tf.TensorSpec(NETWORKS[name][1], tf.int32 if name == "embedding" else tf.float32, "x")]


def _function(tf: Any, name: str) -> Any:
    network = NETWORKS[name][0](tf, _Weights(tf, name))
    return tf.function(lambda x: {"y": network(x)}, input_signature=_signature(tf, name))


def _converted(tf: Any, name: str, precision: str) -> bytes:
    module = tf.Module()
    module.run = _function(tf, name)
    with tempfile.TemporaryDirectory() as scratch:
        tf.saved_model.save(module, scratch, signatures=module.run)
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
        _ask_for(tf, converter, precision, samples(name))
        return bytes(converter.convert())


def _ask_for(tf: Any, converter: Any, precision: str, feeds: Any) -> None:
    """Set the converter's switches as its guide says for a precision."""
    if precision == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "tf_float16":
        converter.target_spec.supported_types = [tf.float16]
    elif precision == "tf_dynamic_tensor":
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    elif precision == "tf_sparse_dynamic":
        converter.optimizations = [tf.lite.Optimize.DEFAULT, tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    elif precision in ("tf_int8", "tf_int16x8"):
        ops = tf.lite.OpsSet
        both = ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [ops.TFLITE_BUILTINS_INT8 if precision == "tf_int8" else both]
        converter.representative_dataset = lambda: ([sample] for sample in feeds)


def _accumulator(tf: Any) -> Any:
    """Return a module that adds each input to what it keeps."""
    module = tf.Module()
    module.kept = tf.Variable(tf.zeros((1, 16)))
    weights = _Weights(tf, "stateful")(16, 16)

    def run(x: Any) -> Any:
        module.kept.assign(0.5 * module.kept + tf.matmul(x, weights))
        return {"y": tf.identity(module.kept)}

    module.run = tf.function(run, input_signature=_signature(tf, "stateful"))
    return module


def _stateful(tf: Any) -> bytes:
    module = _accumulator(tf)
    with tempfile.TemporaryDirectory() as scratch:
        tf.saved_model.save(module, scratch, signatures=module.run)
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
        converter.experimental_enable_resource_variables = True
        return bytes(converter.convert())


NETWORKS: dict[str, Network] = {
    "mlp": (_mlp, (1, 64)),
    "conv": (_conv, (1, 8, 8, 4)),
    "grouped": (_grouped, (1, 6, 6, 8)),
    "upsample": (_upsample, (1, 8, 8, 4)),
    "attention": (_attention, (1, 8, 32)),
    "embedding": (_embedding, (1, 6)),
    "lstm": (_lstm, (1, 6, 16)),
    "loop": (_loop, (1, 6, 16)),
    "open_batch": (_batch, (None, 32)),
    "ratio": (_ratio, (1, 32)),
    "stateful": (_accumulator, (1, 16)),
}


# The networks beside those in float32, as TensorFlow's converter quantizes them.
STOCK = (
    *(f"mlp.{p}" for p in ("tf_float16", "tf_dynamic", "tf_dynamic_tensor", "tf_sparse_dynamic", "tf_int8")),
    "mlp.tf_int16x8", "conv.tf_dynamic", "conv.tf_int16x8", "grouped.tf_dynamic", "upsample.tf_dynamic",
    "attention.tf_int8", "lstm.tf_int8", "ratio.tf_int8",
)  # fmt: skip


def _all(tf: Any) -> Iterator[tuple[str, bytes]]:
    for network in NETWORKS:
        yield f"{network}.float32", _stateful(tf) if network == "stateful" else _converted(tf, network, "float32")
    for name in STOCK:
        yield name, _converted(tf, *name.split("."))


def _truth(tf: Any) -> Iterator[tuple[str, Any]]:
    """Yield each network and what TensorFlow itself computes of its samples."""
    for name in NETWORKS:
        run = _accumulator(tf).run if name == "stateful" else _function(tf, name)
        yield name, np.stack([run(tf.constant(x))["y"].numpy() for x in samples(name)])


def main() -> int:
    """Write the models, and ``truth.npz``, into the folder named on the command line."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    folder = Path(sys.argv[1])
    for name, data in _all(tf):
        (folder / f"{name}.tflite").write_bytes(data)
    np.savez_compressed(folder / "truth.npz", **dict(_truth(tf)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
