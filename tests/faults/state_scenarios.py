"""The changes of a device's state as scenarios, and the drills: mistakes that the campaign must find."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from campaign import Drill, Scenario, written_in_place

import bundlekit
import realbundle
from edgepack_runtime import statefile, trial
from edgepack_runtime._files import file_error, sync_folder
from edgepack_runtime.acceptance import accept_bundle
from edgepack_runtime.container import assemble_front
from edgepack_runtime.device import Device
from edgepack_runtime.errors import SelfTestError, StateError
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.signing import TRUST_PAYLOAD_TYPE, sign
from edgepack_runtime.state import DeviceState, Floor
from edgepack_runtime.statefile import StateFolder
from edgepack_runtime.trust_file import read_trust, update_stored_trust
from edgepack_runtime.trust_update import FloorReset, TrustDocument
from edgepack_runtime.verify import VerifiedBundle

PRODUCT, PROFILE = bundlekit.HEADER.product, "bench-board"
CLOCK = 1_760_000_000
# Twelve release keys make some sectors, so that a torn copy is one.
_KEYS = [bundlekit.ed25519(f"release {i}") for i in range(11)] + [bundlekit.ed25519()]
ROOT = bundlekit.ed25519("root")
FIRST = TrustDocument(version=1, created=CLOCK, root=bundlekit.trust(ROOT), release=bundlekit.trust(*_KEYS))
RESET = FloorReset(product=PRODUCT, security_version=1)


@functools.cache
def bundle(security_version: int, *, good: bool = True) -> Path:
    """Return a bundle file of the real model; one that is not good fails its self-test."""
    board, what = realbundle.profile(), realbundle.model()
    golden = None
    if not good:
        golden = [replace(s, outputs={n: v + 9 for n, v in s.outputs.items()}) for s in what.golden]
    recipe = realbundle.recipe(what, realbundle.manifest(what, board), board, golden)
    header = replace(recipe.header, security_version=security_version)
    path = Path(_bundles().name) / f"{security_version}-{good}.edgepack"
    path.write_bytes(bundlekit.make(recipe, header=header).file())
    return path


@functools.cache
def _bundles() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgepack-faults-")


def state_in(root: Path) -> StateFolder:
    return StateFolder(root / "state")


def accept(root: Path, security_version: int, *, good: bool = True) -> None:
    device = realbundle.device(state=state_in(root))
    accept_bundle(bundle(security_version, good=good), device=device, clock=lambda: CLOCK)


def provision(root: Path) -> None:
    state_in(root).create([Floor(product=PRODUCT, profile=PROFILE, security_version=2)])


@functools.cache
def trust_document(version: int) -> Path:
    """Return a trust document; from the second on, each resets the floor to 1."""
    document = FIRST if version == 1 else replace(FIRST, version=version, floors=(RESET,))
    signed = document.pack()
    path = Path(_bundles().name) / f"trust-{version}.epk"
    path.write_bytes(assemble_front(signed, [sign(ROOT, signed, TRUST_PAYLOAD_TYPE)], (), 0))
    return path


def provision_with_trust(root: Path) -> None:
    provision(root)
    update_trust(root, 2)


def update_trust(root: Path, version: int) -> None:
    first = read_trust(trust_document(1))
    update_stored_trust(state_in(root), first, PROFILE, [trust_document(version)])


def start(root: Path) -> DeviceState:
    return state_in(root).read()


def start_maybe_new(root: Path) -> DeviceState | None:
    """As `start`; None for a device that has no state yet, which a broken state is not."""
    try:
        return start(root)
    except StateError as error:
        if "has no state yet" in error.message:
            return None
        raise


def start_maybe_broken(root: Path) -> DeviceState | None:
    try:
        return start(root)
    except StateError:
        return None


def refused_by_self_test(root: Path) -> None:
    with contextlib.suppress(SelfTestError):
        accept(root, 9, good=False)


def damage(root: Path) -> None:
    provision(root)
    for name in ("state.a", "state.b"):
        (root / "state" / name).write_bytes(b"rust")


SCENARIOS = (
    Scenario(name="first provision", prepare=lambda root: None, act=provision, start=start_maybe_new),
    Scenario(name="accept", prepare=provision_with_trust, act=lambda root: accept(root, 7), start=start),
    Scenario(
        name="accept again",
        prepare=lambda root: (provision_with_trust(root), accept(root, 7)),
        act=lambda root: accept(root, 8),
        start=start,
    ),
    Scenario(
        name="a model that fails its self-test",
        prepare=provision,
        act=refused_by_self_test,
        start=start,
        changes_nothing=True,
    ),
    Scenario(
        name="trust update",
        prepare=lambda root: (provision_with_trust(root), accept(root, 7)),
        act=lambda root: update_trust(root, 3),
        start=start,
    ),
    Scenario(
        name="repair",
        prepare=damage,
        act=lambda root: state_in(root).repair([Floor(product=PRODUCT, profile=PROFILE, security_version=5)]),
        start=start_maybe_broken,
    ),
)


def _written_once(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    written_in_place(path.with_name(f".{path.name}.part"), data, mode=mode, whole=False)
    try:
        path.with_name(f".{path.name}.part").replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise file_error("write", path, error) from None


@contextlib.contextmanager
def _floor_before_self_test() -> Iterator[None]:
    verified = trial.verify_bundle

    def verify_bundle(path: Path, *, device: Device) -> tuple[VerifiedBundle, Manifest]:
        bundle, manifest = verified(path, device=device)
        assert device.state is not None
        device.state.update(lambda old: old.accepting(bundle.header))
        return bundle, manifest

    with patch.object(trial, "verify_bundle", verify_bundle):
        yield


_write = StateFolder._write


def _marked_first(self: StateFolder, state: DeviceState, key: bytes, slots: dict[str, DeviceState]) -> None:
    statefile.write_whole(self.path / "provisioned", b"1", mode=0o600)
    _write(self, state, key, slots)


# Two copies forgive much: where one is written in place, the other is whole. The first provision has no other.
DRILLS = (
    Drill(
        name="files are not synced",
        scenario="accept",
        deaf_to=frozenset({"files"}),
        noticed="no copy is good: nothing is run that could be too old') after the change was reported as done",
    ),
    Drill(
        name="folders are not synced",
        scenario="accept",
        deaf_to=frozenset({"folders"}),
        noticed="time_floor=0, trust=StoredTrust(version=2)) after the change was reported as done",
    ),
    Drill(
        name="written in place",
        scenario="first provision",
        made=lambda: patch.object(statefile, "write_whole", written_in_place),
        noticed="stuck with the old state",
    ),
    Drill(
        name="a short write passes for a whole one",
        scenario="first provision",
        made=lambda: patch.object(statefile, "write_whole", _written_once),
        noticed="short write at",
    ),
    Drill(
        name="the floor rises before the self-test",
        scenario="a model that fails its self-test",
        made=_floor_before_self_test,
        noticed="changed what is in force",
    ),
    Drill(
        name="nobody tidies up",
        scenario="accept",
        made=lambda: patch.object(StateFolder, "_tidy", lambda self: None),
        noticed="left over after a start",
    ),
    Drill(
        name="marked as provisioned before it is",
        scenario="first provision",
        made=lambda: patch.object(StateFolder, "_write", _marked_first),
        noticed="no copy is good",
    ),
)
