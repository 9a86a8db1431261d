"""One process, from its start to the first output: with the bare engine, or with a bundle.

Run by `tools.bench.processes`: ``python child.py bare MODEL`` or ``python child.py bundle MODEL TRUST KEY``. What it
prints is its own memory in bytes: the peak that was resident, and what cannot be evicted, which is what is anonymous
or shared at the end. Nothing is imported here that the measured code does not need.
"""

import sys


def bare(model: str) -> None:
    """Do what a script without edgepack does."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
    outputs = [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
    report(len(outputs))


def bundle(path: str, trust: str, key: str) -> None:
    """Do the same from the encrypted bundle."""
    from pathlib import Path

    from edgepack_runtime.device import Device, load_trust
    from edgepack_runtime.keyfiles import load_device_key
    from edgepack_runtime.session import open_bundle

    device = Device(profile="local", trust=load_trust(Path(trust)), key=load_device_key(Path(key)), num_threads=1)
    with open_bundle(path, device=device) as session:
        import numpy as np

        outputs = session.run({spec.name: np.zeros(spec.shape, spec.dtype) for spec in session.inputs})
        report(len(outputs))


def report(outputs: int) -> None:
    """Print the figures of this process."""
    with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123 - a Path would cost one side its import
        status = dict(line.split(":", 1) for line in file)
    peak, anonymous, shared = (int(status[name].split()[0]) * 1024 for name in ("VmHWM", "RssAnon", "RssShmem"))
    print(peak, anonymous + shared, outputs)


if __name__ == "__main__":
    if sys.argv[1] == "bare":
        bare(sys.argv[2])
    else:
        bundle(*sys.argv[2:])
