"""Convert each ``NAME.onnx`` in the folder given on the samples of ``NAME.npz``; runs in the onnx toolchain.

edgepack is on the import path. It leaves ``NAME.tflite``, or the reason there is none in ``NAME.txt``.
"""

import sys
from pathlib import Path

import numpy as np

from edgepack.converters.onnx import convert
from edgepack.errors import EdgepackError
from edgepack.model import ConversionRequest

for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    with np.load(path.with_suffix(".npz")) as archive:
        name, samples = str(archive["name"]), archive["x"][:, None]
    scratch = path.with_suffix("")
    scratch.mkdir()
    request = ConversionRequest(source=path, options="{}", feeds={"x": samples}, scratch=scratch)
    try:
        path.with_suffix(".tflite").write_bytes(convert(request).tflite)
    except EdgepackError as error:
        path.with_suffix(".txt").write_text(f"{name}\n{error.message}")
