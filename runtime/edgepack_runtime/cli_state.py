"""`edgepack-device accept` and `edgepack-device state`: what this device remembers. Parses, calls, prints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack_runtime.errors import SchemaError

if TYPE_CHECKING:
    from edgepack_runtime.device import Device
    from edgepack_runtime.state import DeviceState, Floor
    from edgepack_runtime.statefile import StateFolder

__all__ = ["add_state_commands"]


def add_state_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands that change or show the device's state."""
    accept = commands.add_parser(
        "accept", help="self-test a bundle, then refuse every older one of its product from now on"
    )
    accept.add_argument("bundle", type=Path, help="the .edgepack file")
    _add_common(accept)
    accept.add_argument("--grants", type=Path, help="sidecar file with this device's grant; default: BUNDLE.grant")
    accept.set_defaults(run=_accept)

    state = commands.add_parser("state", help="create, show or repair what this device remembers")
    actions = state.add_subparsers(required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make the state of a new device")
    _add_common(create)
    _add_floors(create)
    create.set_defaults(run=_create)
    show = actions.add_parser("show", help="print version floors, newest signed time and trust version")
    _add_common(show)
    show.set_defaults(run=_show)
    repair = actions.add_parser("repair", help="begin again where no copy of the state is good")
    _add_common(repair)
    _add_floors(repair)
    repair.add_argument(
        "--no-floor", action="store_true", help="with no floor at all: any older bundle runs again, if it is signed"
    )
    repair.set_defaults(run=_repair)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=Path, required=True, help="device.json of this device")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_floors(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--floor", action="append", default=[], metavar="PRODUCT=VERSION", type=_floor,
        help="lowest security version of a product that is taken; repeatable",
    )  # fmt: skip


def _floor(text: str) -> tuple[str, int]:
    product, equals, version = text.partition("=")
    if not equals or not product or not version.isdecimal() or not version.isascii():
        raise argparse.ArgumentTypeError(f"{text!r} is not PRODUCT=VERSION, e.g. digits=7")
    return product, int(version)


def _accept(args: argparse.Namespace) -> int:
    from edgepack_runtime.acceptance import accept_bundle
    from edgepack_runtime.device import Device

    done = accept_bundle(args.bundle, device=Device.from_file(args.device), grants=args.grants)
    if args.json:
        test = {"samples": done.replay.samples, "error": done.replay.error, "engine": done.engine}
        what = {"verdict": "accepted", "product": done.product, "version": done.version, "floor": done.floor}
        print(json.dumps(what | {"self_test": test}))
        return 0
    print(
        f"self-test: {done.replay.samples} golden samples on {done.engine}, "
        f"largest difference {done.replay.error:.2g}"
    )
    print(f"{done.product} is accepted: below security version {done.floor} nothing of it runs here")
    return 0


def _create(args: argparse.Namespace) -> int:
    device, folder = _folder(args)
    return _print(args, folder, folder.create(_floors(args, device)))


def _show(args: argparse.Namespace) -> int:
    _, folder = _folder(args)
    return _print(args, folder, folder.read())


def _repair(args: argparse.Namespace) -> int:
    device, folder = _folder(args)
    if bool(args.floor) == args.no_floor:
        raise SchemaError(
            "say which floors this device had: the state that knew them is lost",
            hint="--floor PRODUCT=VERSION for each product, or --no-floor",
        )
    return _print(args, folder, folder.repair(_floors(args, device)))


def _folder(args: argparse.Namespace) -> tuple[Device, StateFolder]:
    from edgepack_runtime.device import Device

    device = Device.from_file(args.device)
    if device.state is None:
        raise SchemaError(f"{args.device} names no state folder", hint='add "state": "FOLDER"')
    return device, device.state


def _floors(args: argparse.Namespace, device: Device) -> list[Floor]:
    from edgepack_runtime.state import Floor

    profile = device.profile or ""
    return [
        Floor(product=name, profile=profile, security_version=number) for name, number in dict(args.floor).items()
    ]


def _print(args: argparse.Namespace, folder: StateFolder, state: DeviceState) -> int:
    from edgepack_runtime.moments import utc

    if args.json:
        floors = [{"product": f.product, "profile": f.profile, "floor": f.security_version} for f in state.floors]
        text = {"generation": state.generation, "floors": floors, "time_floor": state.time_floor}
        print(json.dumps(text | {"trust_version": state.trust.version}))
        return 0
    print(f"{folder.path}: generation {state.generation}, trust version {state.trust.version}")
    for floor in state.floors:
        print(f"floor  {floor.product} for {floor.profile}: security version {floor.security_version}")
    print(f"time   it is later than {utc(state.time_floor)}" if state.time_floor else "time   nothing accepted yet")
    return 0
