"""`edgepack-device bench`: how long the model takes on this machine. Parses, calls, prints."""

from __future__ import annotations

import argparse
import json

__all__ = ["add_bench_options"]


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
