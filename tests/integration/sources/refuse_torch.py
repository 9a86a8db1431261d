"""Say why each PyTorch file is refused; runs in the torch toolchain, with our packages at hand.

Arguments: the folder of our host package and of our runtime, then a JSON list of [file, entry, {input: shape}].
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path[:0] = sys.argv[1:3]
from edgepack.converters.torch_onnx import export  # noqa: E402
from edgepack.errors import ConversionError  # noqa: E402
from edgepack.model import ConversionRequest  # noqa: E402

OWN = Path(__file__).with_name("torch_net.py")


def said(file, entry, shapes):
    random = np.random.default_rng(5)
    feeds = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            request = ConversionRequest(
                source=Path(file),
                options="{}",
                feeds=feeds,
                scratch=Path(scratch),
                module=OWN if entry else None,
                entry=entry,
            )
            export(request)
        except ConversionError as error:
            return error.message
    return "not refused"


found = [said(file, entry, shapes) for file, entry, shapes in json.loads(sys.argv[3])]
print("\n" + json.dumps(found))
