"""`edgepack-device probe`: find out what this machine is and what really works on it. Parses, calls, prints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from edgepack_runtime.apart import Answer

__all__ = ["add_probe_command"]


def add_probe_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command that describes this machine."""
    probe = commands.add_parser(
        "probe", help="describe this machine, and try what its engines compute right; for `edgepack profiles import`"
    )
    probe.add_argument("--engine", metavar="NAME", help="try this engine only; default: every installed one")
    probe.add_argument("--output", type=Path, metavar="FILE", help="write the result there as JSON")
    probe.add_argument("--json", action="store_true", help="print the result as JSON")
    probe.set_defaults(run=_probe)


def _probe(args: argparse.Namespace) -> int:
    from edgepack_runtime._files import write_whole
    from edgepack_runtime.probing import probe

    found = probe(args.engine)
    if args.output is not None:
        write_whole(args.output, json.dumps(found, indent=1).encode(), mode=0o644)
    if args.json:
        print(json.dumps(found))
        return 0
    for engine in found["engines"]:
        for line in _lines(engine):
            print("".join(c if c.isprintable() else "?" for c in line))
    return 0


def _lines(engine: Answer) -> Iterator[str]:
    name = f"{engine['name']} {engine['version']}"
    if engine["problem"]:
        yield f"{name}: does not work: {engine['problem']}"
        return
    yield f"{name}: {sum(map(bool, engine['operators']))} operators, {engine['process_bytes'] >> 20} MiB with Python"
    ratios = ", ".join(f"{ratio:g} with {count}" for count, ratio in engine["threads"])
    yield f"  threads: {engine['num_threads']} (time of a convolution: {ratios})"
    for model in engine["models"]:
        told = f"off by {model['error']:.2%} at most" if "error" in model else model["reason"] or "gives no numbers"
        yield f"  {model['verdict']:5} {model['name']:50} {told}"
