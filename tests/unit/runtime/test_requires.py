"""What a bundle requires of other products: held against what the device has accepted, wherever it comes in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import bundlekit
import realbundle
import storekit
from edgepack_runtime.errors import FormatError, IncompatibleError
from edgepack_runtime.installation import activate_bundle, install_bundle, roll_back
from edgepack_runtime.manifest import MAX_REQUIREMENTS, Manifest, Requirement
from edgepack_runtime.session import open_bundle, verify_bundle
from edgepack_runtime.statefile import StateFolder
from storekit import CLOCK, PRODUCT

NEEDS = (Requirement(product="classifier", security_version=3),)


def accepted(root: Path, product: str, version: int) -> None:
    """Let the state below `root` have accepted that version of a product."""
    header = replace(bundlekit.HEADER, product=product, profile=storekit.PROFILE, security_version=version)
    StateFolder(root / "state").update(lambda old: old.accepting(header))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    StateFolder(tmp_path / "state").create()
    (tmp_path / "m.edgepack").write_bytes(storekit.bundle(1, requires=NEEDS))
    return tmp_path


def test_a_requirement_comes_out_as_it_went_in():
    whole = replace(realbundle.manifest(realbundle.model(), realbundle.profile()), requires=NEEDS)
    assert Manifest.from_bytes(whole.to_bytes()).requires == NEEDS


def with_requires(value: object) -> bytes:
    """Return a manifest whose member `requires` is that value."""
    whole = json.loads(realbundle.manifest(realbundle.model(), realbundle.profile()).to_bytes())
    return json.dumps(whole | {"requires": value}).encode()


def requirement(product: object = "classifier", security_version: object = 3) -> dict[str, object]:
    return {"product": product, "security_version": security_version}


def test_as_many_requirements_as_the_limit_are_read():
    many = [requirement(f"p{number}") for number in range(MAX_REQUIREMENTS)]
    assert len(Manifest.from_bytes(with_requires(many)).requires) == MAX_REQUIREMENTS


def test_the_lowest_version_that_can_be_required_is_one():
    (required,) = Manifest.from_bytes(with_requires([requirement(security_version=1)])).requires
    assert required.security_version == 1


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([], "expected 1 to 64 products"),
        ([requirement(f"p{number}") for number in range(MAX_REQUIREMENTS + 1)], "expected 1 to 64 products"),
        ([requirement(), requirement("detector"), requirement(security_version=4)], "none of them twice"),
        ([requirement(PRODUCT)], f"{PRODUCT} requires itself"),
        ([requirement("a b")], "expected a product's name"),
        ([requirement("x" * 32)], "expected a product's name"),
        ([requirement(security_version=0)], "security version of at least 1"),
        ([requirement(security_version=True)], "expected int"),
        ([requirement() | {"from": 3}], "unknown field"),
        ([{"product": "classifier"}], "missing"),
        ({}, "expected"),
        (None, "expected"),
    ],
)
def test_requirements_that_cannot_be_are_refused(value, complaint):
    with pytest.raises(FormatError, match=rf"requires.*{complaint}"):
        Manifest.from_bytes(with_requires(value))


def test_a_bundle_opens_where_what_it_requires_was_accepted(root):
    accepted(root, "classifier", 3)
    with open_bundle(root / "m.edgepack", device=storekit.device(root)) as session:
        assert session.manifest.requires == NEEDS


def test_a_bundle_opens_where_the_configuration_says_that_it_was(root):
    with open_bundle(root / "m.edgepack", device=realbundle.device(accepted={"classifier": 4})) as session:
        assert session.manifest.requires == NEEDS


def test_a_bundle_is_not_opened_before_what_it_requires_was_accepted(root):
    accepted(root, "classifier", 2)
    with pytest.raises(IncompatibleError, match=r"requires classifier in security version 3 or later.*accepted 2"):
        open_bundle(root / "m.edgepack", device=storekit.device(root))


def test_a_device_without_a_state_opens_none_that_requires_anything(root):
    with pytest.raises(IncompatibleError, match="accepted none"):
        open_bundle(root / "m.edgepack", device=realbundle.device())


def test_the_refusal_says_what_to_install_first(root):
    with pytest.raises(IncompatibleError) as refusal:
        open_bundle(root / "m.edgepack", device=storekit.device(root))
    assert refusal.value.hint == "install and activate classifier 3 or later first"


def test_a_bundle_is_not_installed_before_what_it_requires(root):
    device = storekit.device(root)
    with pytest.raises(IncompatibleError, match="requires classifier"):
        install_bundle(root / "m.edgepack", device=device, clock=lambda: CLOCK)
    assert not list((root / "store").rglob("*.edgepack"))


def test_a_bundle_is_installed_and_activated_after_what_it_requires(root):
    accepted(root, "classifier", 3)
    device = storekit.device(root)
    install_bundle(root / "m.edgepack", device=device, clock=lambda: CLOCK)
    assert activate_bundle(PRODUCT, device=device).product.active_slot().security_version == 1


def test_nothing_rolls_back_to_a_bundle_whose_requirement_is_not_met_any_more(root):
    before = storekit.device(root, accepted={"classifier": 3})
    for data in (storekit.bundle(1, requires=NEEDS), storekit.bundle(1, minor=1)):
        (root / "m.edgepack").write_bytes(data)
        install_bundle(root / "m.edgepack", device=before, clock=lambda: CLOCK)
        activate_bundle(PRODUCT, device=before)
    with pytest.raises(IncompatibleError, match="accepted 2"):
        roll_back(PRODUCT, device=storekit.device(root, accepted={"classifier": 2}))


def test_a_device_is_told_by_verify(root):
    with pytest.raises(IncompatibleError, match="requires classifier"):
        verify_bundle(root / "m.edgepack", device=storekit.device(root))


def test_whoever_only_looks_is_shown_what_it_requires(root):
    _, manifest = verify_bundle(root / "m.edgepack", device=realbundle.device())
    assert manifest.requires == NEEDS
