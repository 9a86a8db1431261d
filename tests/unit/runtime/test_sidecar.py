"""A real bundle and a grant beside it: the whole runtime opens it with the device's own key, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

import bundlekit
import realbundle
from edgepack_runtime.container import Container, Grant, Preamble, assemble_front, pack_grants, parse_grants
from edgepack_runtime.errors import BundleError, GrantError
from edgepack_runtime.grants import open_grant, seal
from edgepack_runtime.session import open_bundle
from edgepack_runtime.signing import key_id

BUNDLE = realbundle.bundle()
FRONT = Preamble.parse(BUNDLE[:32]).front_length
CONTAINER = Container.from_front(BUNDLE[:FRONT], len(BUNDLE))
LATE = bundlekit.x25519("enrolled late")
LATE_DEVICE = realbundle.device(key=LATE)


def sidecar(key=LATE) -> bytes:
    content_key = open_grant(bundlekit.x25519(), CONTAINER.grants, CONTAINER.signed)
    return pack_grants([seal(key.public_key(), content_key, CONTAINER.signed)])


def without_grants() -> bytes:
    payload = BUNDLE[FRONT:]
    return assemble_front(CONTAINER.signed, CONTAINER.signatures, (), len(payload)) + payload


@pytest.fixture(params=["with other grants in it", "without a grant in it"])
def path(request, tmp_path) -> Path:
    file = tmp_path / "model.edgepack"
    file.write_bytes(BUNDLE if request.param.startswith("with other") else without_grants())
    return file


def test_a_grant_beside_the_bundle_opens_it(path: Path) -> None:
    path.with_name("model.edgepack.grant").write_bytes(sidecar())
    with open_bundle(path, device=LATE_DEVICE) as session:
        assert session.self_test().holds


def test_a_grant_that_was_named_opens_it(path: Path, tmp_path) -> None:
    (tmp_path / "mine").write_bytes(sidecar())
    with open_bundle(path, device=LATE_DEVICE, grants=tmp_path / "mine") as session:
        assert session.self_test().holds


def test_without_it_the_device_is_told_that_it_has_no_grant(path: Path) -> None:
    with pytest.raises(GrantError, match="no grant for this device's key"):
        open_bundle(path, device=LATE_DEVICE)


def test_somebody_elses_grant_opens_nothing(path: Path) -> None:
    path.with_name("model.edgepack.grant").write_bytes(sidecar(bundlekit.x25519("somebody")))
    with pytest.raises(GrantError, match="no grant for this device's key"):
        open_bundle(path, device=LATE_DEVICE)


def test_a_grant_of_another_bundle_opens_nothing(path: Path) -> None:
    content_key = open_grant(bundlekit.x25519(), CONTAINER.grants, CONTAINER.signed)
    moved = seal(LATE.public_key(), content_key, CONTAINER.signed + b"another")
    path.with_name("model.edgepack.grant").write_bytes(pack_grants([moved]))
    with pytest.raises(GrantError, match="does not open"):
        open_bundle(path, device=LATE_DEVICE)


def test_a_grant_of_an_unknown_kind_in_the_bundle_does_not_keep_the_sidecar_from_being_read(tmp_path: Path) -> None:
    payload, later = BUNDLE[FRONT:], Grant(kind=4, key_id=key_id(LATE.public_key()), sealed=b"of a later version")
    front = assemble_front(CONTAINER.signed, CONTAINER.signatures, (later,), len(payload))
    path = tmp_path / "model.edgepack"
    path.write_bytes(front + payload)
    path.with_name("model.edgepack.grant").write_bytes(sidecar())
    with open_bundle(path, device=LATE_DEVICE) as session:
        assert session.self_test().holds


def test_every_flipped_bit_of_a_sidecar_is_refused() -> None:
    bundle = bundlekit.check(bundlekit.make().file())
    parts = bundlekit.make()
    data = pack_grants([seal(LATE.public_key(), bundlekit.seed("content key"), parts.signed)])
    opened = []
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = parse_grants(bytes(flipped))
            bundle.unlock(LATE, found)
        except BundleError:
            continue
        opened.append(bit)
    assert opened == []


def test_an_empty_sidecar_changes_nothing(path: Path) -> None:
    path.with_name("model.edgepack.grant").write_bytes(pack_grants(()))
    with pytest.raises(GrantError):
        open_bundle(path, device=LATE_DEVICE)
