"""`edgepack-device bench` and `predict`: how long a model takes, and what it finds. Parses, calls, prints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepack_runtime.prediction import Found, Prediction

__all__ = ["add_bench_options", "add_predict_options"]


def add_bench_options(parser: argparse.ArgumentParser) -> None:
    """Add what `bench` takes beside a bundle, a device and grants."""
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="how many, one after the other (50)")
    parser.set_defaults(run=_bench)


def _bench(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from edgepack_runtime.device import Device
    from edgepack_runtime.session import open_bundle

    with open_bundle(args.bundle, device=Device.from_file(args.device), grants=args.grants) as session:
        found = session.bench(args.runs)
    if args.json:
        print(json.dumps(asdict(found) | {"engine": session.engine}))
        return 0
    print(
        f"{found.runs} runs on {session.engine}: median {found.median_ms:.3f} ms, 95 % within {found.p95_ms:.3f} ms, "
        f"{found.min_ms:.3f} to {found.max_ms:.3f} ms"
    )
    return 0


def add_predict_options(parser: argparse.ArgumentParser) -> None:
    """Add what `predict` takes beside a bundle, a device and grants."""
    parser.add_argument("file", type=Path, help="picture (needs Pillow) or WAV file")
    parser.add_argument(
        "--hop", type=float, metavar="SECONDS", help="predict windows of a recording, one every so often"
    )
    parser.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> int:
    from edgepack_runtime.device import Device
    from edgepack_runtime.session import open_bundle

    with open_bundle(args.bundle, device=Device.from_file(args.device), grants=args.grants) as session:
        windows = [session.predict(args.file)] if args.hop is None else session.predict_windows(args.file, args.hop)
        if args.json:
            print(json.dumps({"predictions": [_table(window) for window in windows]}))
            return 0
        for window in windows:
            for thing in window.found:
                at = "" if args.hop is None else f"{window.seconds:8.2f} s  "
                label = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in thing.label)
                print(f"{at}{thing.score:.4f}  {label}{_place(thing)}")
    return 0


def _table(prediction: Prediction) -> dict[str, object]:
    from dataclasses import asdict

    return {"seconds": prediction.seconds, "found": [asdict(thing) for thing in prediction.found]}


def _place(thing: Found) -> str:
    box = thing.box
    if box is None:
        return ""
    return f"  left {box.left:.0f}, top {box.top:.0f}, {box.width:.0f} x {box.height:.0f}"
