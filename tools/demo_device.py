"""The device's half of `make demo`: only edgepack_runtime, numpy and an engine are importable here.

usage: demo_device.py BUNDLE DEVICE_JSON EVALUATION_NPZ RESULT_JSON
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np

from edgepack_runtime import Device, open_bundle


def main() -> int:
    """Run the evaluation from the encrypted bundle and write its accuracy."""
    bundle, device, evaluation, result = sys.argv[1:]
    names = sorted({d.metadata["Name"].lower() for d in importlib.metadata.distributions()} - {"pip", "setuptools"})
    print(f"this device has: {', '.join(names)}")
    with np.load(evaluation) as archive:
        x, y = archive["Input3"], archive["y"]
    with open_bundle(bundle, device=Device.from_file(device)) as session:
        replay = session.self_test()
        (output,) = session.outputs
        right = sum(
            int(session.run({"Input3": image[None]})[output.name].argmax()) == digit
            for image, digit in zip(x, y, strict=True)
        )
        print(
            f"{session.manifest.name} {session.manifest.model.scheme} on {session.engine}: "
            f"self-test good on {replay.samples} golden samples, {right} of {len(y)} digits right"
        )
    Path(result).write_text(json.dumps({"accuracy": right / len(y)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
