"""`make bench`: what a bundle costs beside the bare engine, as ratios measured in the same run.

Two figures for one model: `Session.run` against a hand-written set_tensor/invoke/get_tensor loop, and a process that
opens the encrypted bundle and runs once against one that loads the bare .tflite file. The rounds take turns, so that
a machine that slows down slows both; the median of the paired ratios is printed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgepack.keys import make_identity
from edgepack.localprofile import local_profile
from edgepack.pack import GOLDEN_ENTRY, MODEL_ENTRY, Contents, Release, pack
from edgepack.signers import SignerRequest, open_signer
from edgepack_runtime.device import Device, load_trust
from edgepack_runtime.engines import load
from edgepack_runtime.golden import GoldenSample, pack_golden
from edgepack_runtime.keyfiles import load_device_key, load_recipient
from edgepack_runtime.manifest import Golden, Manifest, ModelDescription, Provenance
from edgepack_runtime.session import open_bundle

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_MODEL = ROOT / "tests" / "data" / "engines" / "two_by_two.tflite"
ROUNDS, RUNS, STARTS = 41, 200, 15
BARE = (
    "import sys, numpy as np\n"
    "from ai_edge_litert.interpreter import Interpreter\n"
    "i = Interpreter(model_path=sys.argv[1], num_threads=1); i.allocate_tensors()\n"
    "for d in i.get_input_details(): i.set_tensor(d['index'], np.zeros(d['shape'], d['dtype']))\n"
    "i.invoke(); [i.get_tensor(d['index']) for d in i.get_output_details()]\n"
)
BUNDLE = (
    "import sys, numpy as np\n"
    "from edgepack_runtime import Device, open_bundle\n"
    "from edgepack_runtime.device import load_trust\n"
    "from edgepack_runtime.keyfiles import load_device_key\n"
    "from pathlib import Path\n"
    "d = Device(profile='local', trust=load_trust(Path(sys.argv[2])), key=load_device_key(Path(sys.argv[3])),"
    " num_threads=1)\n"
    "with open_bundle(sys.argv[1], device=d) as s:\n"
    "    s.run({t.name: np.zeros(t.shape, t.dtype) for t in s.inputs})\n"
)


def main() -> int:
    """Print the two ratios for the model given as the first argument."""
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_MODEL
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        identity = make_identity(base / "keys")
        bundle = base / "model.edgepack"
        bundle.write_bytes(make_bundle(model, identity.signing_key, identity.recipient))
        device = Device(
            profile="local",
            trust=load_trust(identity.trust),
            key=load_device_key(identity.device_key),
            num_threads=1,
        )
        print(f"{model.name}, {model.stat().st_size:,} bytes")
        run_ratio(model, bundle, device)
        commands = (
            [sys.executable, "-c", BUNDLE, str(bundle), str(identity.trust), str(identity.device_key)],
            [sys.executable, "-c", BARE, str(model)],
        )
        start_ratio(*commands)
    return 0


def make_bundle(model: Path, signing_key: Path, recipient: Path) -> bytes:
    """Return an encrypted bundle of `model` for this machine."""
    profile = local_profile()
    engine = load(profile.engine.name, str(model), num_threads=1)
    inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in engine.inputs}
    sample = GoldenSample(inputs=inputs, outputs=engine.run(inputs))
    manifest = Manifest(
        name="bench",
        version="1",
        licence="",
        profile=profile,
        model=ModelDescription(entry=MODEL_ENTRY, scheme="float32", inputs=engine.inputs, outputs=engine.outputs),
        golden=Golden(entry=GOLDEN_ENTRY, samples=1, tolerance=0.0),
        labels=(),
        provenance=Provenance(
            tool="bench",
            source_format="tflite",
            source_digest="",
            calibration_digest="",
            evaluation_digest="",
            steps=(),
            notes=(),
        ),
        evidence=(),
    )
    release = Release(
        signing_key=open_signer(SignerRequest(uri=str(signing_key))),
        recipients=(load_recipient(recipient),),
        security_version=1,
        created=int(time.time()),
    )
    golden = pack_golden([sample], engine.inputs, engine.outputs)
    return pack(Contents(model=model.read_bytes(), golden=golden), manifest, release)


def run_ratio(model: Path, bundle: Path, device: Device) -> None:
    """Print `Session.run` over the hand-written loop."""
    from ai_edge_litert.interpreter import Interpreter

    bare = Interpreter(model_path=str(model), num_threads=1)
    bare.allocate_tensors()
    details = [(d["index"], np.zeros(d["shape"], d["dtype"])) for d in bare.get_input_details()]
    wanted = [d["index"] for d in bare.get_output_details()]

    def by_hand() -> None:
        for index, value in details:
            bare.set_tensor(index, value)
        bare.invoke()
        for index in wanted:
            bare.get_tensor(index)

    with open_bundle(bundle, device=device) as session:
        feeds = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in session.inputs}
        pairs = [(timed(lambda: session.run(feeds)), timed(by_hand)) for _ in range(ROUNDS)]
    over = statistics.median(ours - theirs for ours, theirs in pairs) / RUNS * 1e6
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    print(f"Session.run / bare engine: {ratio:.2f} ({over:+.1f} µs a run)")


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of `RUNS` calls."""
    start = time.perf_counter()
    for _ in range(RUNS):
        call()
    return time.perf_counter() - start


def start_ratio(ours: list[str], theirs: list[str]) -> None:
    """Print process start to first output, bundle over bare file."""
    pairs = []
    for _ in range(STARTS):
        seconds = []
        for command in (ours, theirs):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
        pairs.append(seconds[0] / seconds[1])
    print(f"start to first output, encrypted bundle / bare file: {statistics.median(pairs):.2f}")


if __name__ == "__main__":
    sys.exit(main())
