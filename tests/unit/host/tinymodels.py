"""What the tests of passes, versions and fit share: the tiny models, inputs for them, and running them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgepack.model import PassRequest
from edgepack_runtime.tensors import Array

TINY = Path(__file__).parents[2] / "data" / "tiny"
SHAPES = {"digits": ("image", (1, 8, 8, 1)), "matmul": ("signal", (2, 4, 16))}
LITERT = "ai-edge-litert==2.3.0"
TFLITE = "tflite-runtime==2.14.0"


def tiny(name: str) -> bytes:
    return (TINY / f"{name}.tflite").read_bytes()


def feeds(name: str, count: int, seed: int = 5) -> dict[str, Array]:
    key, shape = SHAPES[name]
    return {key: np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)}


def request(name: str, engine: str = LITERT, options: str = "{}", count: int = 30) -> PassRequest:
    return PassRequest(model=tiny(name), engine=engine, options=options, calibration=feeds(name, count))


def run(model: bytes, samples: dict[str, Array]) -> dict[str, Array]:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=model, num_threads=1).get_signature_runner("serving_default")
    (key,) = samples
    results = [runner(**{key: sample}) for sample in samples[key]]
    return {name: np.stack([r[name] for r in results]) for name in results[0]}


def correlation(a: Array, b: Array) -> float:
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))
