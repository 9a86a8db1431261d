"""Make the models under tests/data/tiny: small float TFLite files with seeded weights and a signature.

Run it in an environment with TensorFlow 2.19 (``edgepack toolchain install tf`` makes one)::

    python tools/make_tiny_models.py tests/data/tiny
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOWEST = -3.4028234663852886e38


def _digits(tf: Any, constant: Callable[..., Any]) -> Callable[[Any], Any]:
    """Conv, a MaxPool padded the ONNX way, a grouped conv, and dense weights whose rows differ a thousandfold."""
    first, second, third = constant(3, 3, 1, 8), constant(3, 3, 4, 8), constant(3, 3, 8, 1)
    dense = constant(128, 10) * (10.0 ** (-0.3 * tf.range(10, dtype=tf.float32)))

    def model(image: Any) -> dict[str, Any]:
        x = tf.nn.relu(tf.nn.conv2d(image, first, 1, "SAME"))
        x = tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=LOWEST)
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        x = tf.nn.relu(tf.nn.conv2d(x, second, 1, "SAME"))
        x = tf.nn.depthwise_conv2d(x, third, (1, 1, 1, 1), "SAME")
        logits = tf.matmul(tf.reshape(x, (1, 128)), dense)
        return {"scores": tf.nn.softmax(logits), "logits": logits}

    return model


def _matmul(tf: Any, constant: Callable[..., Any]) -> Callable[[Any], Any]:
    """A batched matrix product with constant weights, and operators tflite-runtime 2.14 has no int8 kernel for."""
    weights = constant(1, 16, 12)
    spread = 10.0 ** (-0.25 * tf.range(12, dtype=tf.float32))

    def model(signal: Any) -> dict[str, Any]:
        x = tf.linalg.matmul(tf.tanh(signal), tf.tile(weights * spread, (2, 1, 1)))
        return {"ratio": tf.sqrt(tf.nn.relu(x) + 0.5) / (tf.nn.relu(-x) + 2.0)}

    return model


def main() -> int:
    """Write the models into the folder named on the command line."""
    import numpy as np
    import tensorflow as tf

    folder = Path(sys.argv[1])
    rng = np.random.default_rng(7)

    def constant(*shape: int) -> Any:
        return tf.constant(rng.normal(size=shape).astype(np.float32))

    for name, make, key, shape in (
        ("digits", _digits, "image", (1, 8, 8, 1)),
        ("matmul", _matmul, "signal", (2, 4, 16)),
    ):
        module = tf.Module()
        module.run = tf.function(make(tf, constant), input_signature=[tf.TensorSpec(shape, tf.float32, key)])
        with tempfile.TemporaryDirectory() as scratch:
            tf.saved_model.save(module, scratch, signatures=module.run)
            data = tf.lite.TFLiteConverter.from_saved_model(scratch).convert()
        (folder / f"{name}.tflite").write_bytes(data)
        print(f"{name}.tflite: {len(data)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
