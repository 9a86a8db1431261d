"""`edgepack-device install`, `activate`, `rollback`, `status` and `gc`: what is installed. Parses, calls, prints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepack_runtime.device import Device
    from edgepack_runtime.installation import Activated, ProductStatus
    from edgepack_runtime.slots import Health, Product, Slot

__all__ = ["add_store_commands"]

_DEFAULT_STARTS = 3


def add_store_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands that install bundles and choose which one runs."""
    install = commands.add_parser("install", help="copy a bundle into the store, verify and self-test it there")
    install.add_argument("bundle", type=Path, help="the .edgepack file")
    _add_common(install)
    install.add_argument("--grants", type=Path, help="sidecar file with this device's grant; default: BUNDLE.grant")
    install.add_argument("--activate", action="store_true", help="make it the active one, too")
    _add_health(install)
    install.set_defaults(run=_install, usage=install.error)

    activate = commands.add_parser("activate", help="make the installed bundle of a product the one that runs")
    activate.add_argument("product")
    _add_common(activate)
    _add_health(activate)
    activate.set_defaults(run=_activate)

    rollback = commands.add_parser("rollback", help="go back to the bundle before the active one")
    rollback.add_argument("product")
    _add_common(rollback)
    rollback.set_defaults(run=_rollback)

    status = commands.add_parser("status", help="say what is installed, active and on trial, and the version floors")
    _add_common(status)
    status.set_defaults(run=_status)

    gc = commands.add_parser("gc", help="remove interrupted copies, and bundles that can never run")
    _add_common(gc)
    gc.set_defaults(run=_gc)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=Path, required=True, help="device.json of this device")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_health(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--health-starts", type=_positive, metavar="N",
        help=f"fall back unless the application reports healthy within so many starts (default {_DEFAULT_STARTS}, "
        "if --health-minutes is given)",
    )  # fmt: skip
    parser.add_argument(
        "--health-minutes", type=_positive, metavar="N", help="and so many minutes after its first start"
    )


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= len(text) <= 6 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 999999")
    return int(text)


def _health(args: argparse.Namespace) -> Health | None:
    from edgepack_runtime.slots import Health

    starts, minutes = args.health_starts, args.health_minutes
    if starts is None and minutes is None:
        return None
    return Health(starts=starts or _DEFAULT_STARTS, seconds=None if minutes is None else 60 * minutes)


def _device(args: argparse.Namespace) -> Device:
    from edgepack_runtime.device import Device

    return Device.from_file(args.device)


def _install(args: argparse.Namespace) -> int:
    from edgepack_runtime.installation import activate_bundle, install_bundle

    health = _health(args)
    if health is not None and not args.activate:
        args.usage("argument --health-starts and --health-minutes: need --activate; or give them to `activate`")
    device = _device(args)
    done = install_bundle(args.bundle, device=device, grants=args.grants)
    activated = None
    if args.activate and not done.is_active:
        activated = activate_bundle(done.product, device=device, health=health)
    if args.json:
        result: dict[str, object] = {"product": done.product, "bundle": _slot_to_json(done.slot)}
        if done.copied is not None and done.replay is not None:
            result["copied"] = {"written": done.copied.written, "found": done.copied.found}
            test = {"samples": done.replay.samples, "error": done.replay.error, "engine": done.engine}
            result["self_test"] = test
        verdict = "active already" if done.is_active else "installed" if activated is None else "active"
        print(json.dumps(result | {"verdict": verdict}))
        return 0
    name = f"{done.product} {done.slot.version}"
    if done.copied is None or done.replay is None:
        print(f"{name} is the active bundle already, and whole: nothing was done")
        return 0
    print(f"{done.copied.written} bytes copied, {done.copied.found} lay there already")
    print(
        f"self-test: {done.replay.samples} golden samples on {done.engine}, "
        f"largest difference {done.replay.error:.2g}"
    )
    if activated is None:
        print(f"{name} is installed; `edgepack-device activate {done.product} --device FILE` makes it run")
    else:
        _print_activated(activated)
    return 0


def _activate(args: argparse.Namespace) -> int:
    from edgepack_runtime.installation import activate_bundle

    return _print_result(args, activate_bundle(args.product, device=_device(args), health=_health(args)))


def _rollback(args: argparse.Namespace) -> int:
    from edgepack_runtime.installation import roll_back

    return _print_result(args, roll_back(args.product, device=_device(args)))


def _print_result(args: argparse.Namespace, done: Activated) -> int:
    if args.json:
        print(json.dumps(_product_to_json(done.product) | {"floor": done.floor}))
    else:
        _print_activated(done)
    return 0


def _print_activated(done: Activated) -> None:
    record, active = done.product, done.product.active_slot()
    print(f"{record.name} {active.version} is active; below security version {done.floor} nothing of it runs here")
    if record.trial is not None:
        before = record.good_spare(done.floor)
        back = "nothing to fall back to" if before is None else f"else {before.version} comes back"
        print(f"on trial: it must be reported healthy within {_limits(record)}; {back}")


def _limits(product: Product) -> str:
    if product.trial is None:
        return ""
    health = product.trial.health
    minutes = "" if health.seconds is None else f" and {health.seconds // 60} minutes after the first"
    return f"{health.starts} {'start' if health.starts == 1 else 'starts'}{minutes}"


def _status(args: argparse.Namespace) -> int:
    from edgepack_runtime.installation import product_states

    states = product_states(_device(args))
    if args.json:
        print(json.dumps({"products": [_status_to_json(state) for state in states]}))
        return 0
    for state in states:
        product = state.product
        print(f"{product.name}: floor {state.floor}")
        for slot, size in zip(product.slots, state.sizes, strict=True):
            print(f"  {_line(product, slot)}, {size} bytes on disk")
    if not states:
        print("nothing is installed")
    return 0


def _line(product: Product, slot: Slot) -> str:
    role = "active" if slot is product.active else "other "
    line = f"{role} {slot.version}, security version {slot.security_version}: {slot.state.value}"
    if slot is product.active and product.trial is not None:
        line += f", started {product.trial.started} times, to be reported healthy within {_limits(product)}"
    return f"{line} ({slot.note})" if slot.note else line


def _gc(args: argparse.Namespace) -> int:
    from edgepack_runtime.installation import collect_garbage

    freed = collect_garbage(_device(args))
    print(json.dumps({"freed": freed}) if args.json else f"{freed} bytes freed")
    return 0


def _slot_to_json(slot: Slot) -> dict[str, object]:
    table: dict[str, object] = {"version": slot.version, "security_version": slot.security_version}
    return table | {"state": slot.state.value, "length": slot.length, "note": slot.note}


def _product_to_json(product: Product) -> dict[str, object]:
    from edgepack_runtime.slots import SlotState

    roles = {SlotState.GOOD: "previous", SlotState.FAILED: "failed"}
    found: dict[str, object] = {"product": product.name, "active": None, "previous": None, "pending": None}
    found["failed"] = None
    for slot in product.slots:
        role = "active" if slot is product.active else roles.get(slot.state, "pending")
        found[role] = _slot_to_json(slot)
    trial = product.trial
    health = trial and {"started": trial.started, "starts": trial.health.starts, "seconds": trial.health.seconds}
    return found | {"health": health}


def _status_to_json(state: ProductStatus) -> dict[str, object]:
    return _product_to_json(state.product) | {"floor": state.floor, "bytes_on_disk": sum(state.sizes)}
