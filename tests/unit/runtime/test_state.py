"""What a device remembers: read back as written, believed only when it is ours, and never forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

import bundlekit
from edgepack_runtime.errors import FastForwardError, RollbackError, StateError
from edgepack_runtime.state import MAX_JUMP, MAX_STATE_BYTES, DeviceState, Floor, StoredTrust

KEY = bundlekit.seed("state key")
HEADER = bundlekit.HEADER
STATE = DeviceState(
    generation=3,
    floors=(
        Floor(product="digits", profile="raspberry-pi-4", security_version=5),
        Floor(product="faces", profile="raspberry-pi-4", security_version=2**64 - 1),
    ),
    time_floor=1_700_000_000,
    trust=StoredTrust(version=4, document=b"\0trust\xff"),
)


def at(security_version: int, **changes: object) -> object:
    return replace(HEADER, security_version=security_version, **changes)


@pytest.mark.parametrize("state", [STATE, DeviceState(generation=1)])
def test_a_state_reads_back_as_it_was_written(state):
    assert DeviceState.from_bytes(state.to_bytes(KEY), KEY) == state


def test_every_flipped_bit_is_refused():
    data = STATE.to_bytes(KEY)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StateError):
            DeviceState.from_bytes(bytes(flipped), KEY)


def test_every_truncation_is_refused():
    data = STATE.to_bytes(KEY)
    for length in range(len(data)):
        with pytest.raises(StateError):
            DeviceState.from_bytes(data[:length], KEY)


def test_a_state_written_with_another_key_is_refused():
    with pytest.raises(StateError, match="not written with this device's state key"):
        DeviceState.from_bytes(STATE.to_bytes(KEY), bundlekit.seed("another key"))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, b"X"),
        (8, b"\2"),
        (10, b"\3"),
        (10, b"\1"),
        (12, b"\1"),
        (40, b"\1"),
        (44, b"\1"),
        (48, b"\xff"),
        (48, b"z"),
    ],
)
def test_a_malformed_state_is_refused_even_with_a_good_tag(at, value):
    import edgepack_runtime.state as module

    body = bytearray(STATE.to_bytes(KEY)[:-32])
    body[at : at + 1] = value
    with pytest.raises(StateError):
        DeviceState.from_bytes(bytes(body) + module._tag(KEY, bytes(body)), KEY)


@pytest.mark.parametrize("length", [0, 47])
def test_a_state_shorter_than_its_header_is_refused_even_with_a_good_tag(length):
    import edgepack_runtime.state as module

    body = STATE.to_bytes(KEY)[:length]
    with pytest.raises(StateError, match=f"{length} bytes, wanted at least 48"):
        DeviceState.from_bytes(body + module._tag(KEY, body), KEY)


def test_the_trust_document_does_not_show():
    assert "xff" not in repr(STATE)


def test_floors_are_of_a_profile():
    assert (STATE.floors_of("raspberry-pi-4")["digits"], STATE.floors_of("other")) == (5, {})


def test_an_accepted_bundle_raises_the_floor_of_its_product_alone():
    assert STATE.accepting(at(9)).floors_of("raspberry-pi-4") == {"digits": 9, "faces": 2**64 - 1}


def test_a_new_product_or_profile_gets_a_floor_of_its_own():
    state = STATE.accepting(at(1, product="a")).accepting(at(2, profile="b"))
    assert [(f.product, f.profile, f.security_version) for f in state.floors][:3] == [
        ("a", "raspberry-pi-4", 1),
        ("digits", "b", 2),
        ("digits", "raspberry-pi-4", 5),
    ]


def test_a_bundle_below_the_floor_is_refused():
    with pytest.raises(RollbackError, match="4 is lower than 5"):
        STATE.accepting(at(4))


def test_the_bundle_at_the_floor_changes_no_floor():
    assert STATE.accepting(at(5)).floors == STATE.floors


def test_a_leap_as_far_as_allowed_is_taken():
    assert STATE.accepting(at(5 + MAX_JUMP)).floors_of("raspberry-pi-4")["digits"] == 5 + MAX_JUMP


@pytest.mark.parametrize("version", [5 + MAX_JUMP + 1, 2**64 - 1])
def test_a_leap_further_than_that_is_refused(version):
    with pytest.raises(FastForwardError, match="above the floor 5"):
        STATE.accepting(at(version))


def test_the_first_bundle_of_a_product_may_not_leap_either():
    with pytest.raises(FastForwardError):
        DeviceState(generation=1).accepting(at(MAX_JUMP + 1))


@pytest.mark.parametrize(("created", "floor"), [(1_600_000_000, 1_700_000_000), (1_750_000_000, 1_750_000_000)])
def test_time_goes_to_the_newest_signed_time_and_never_back(created, floor):
    assert STATE.accepting(at(5, created=created)).time_floor == floor


@pytest.mark.parametrize(
    "successor",
    [
        replace(STATE, floors=STATE.floors[1:]),
        replace(STATE, floors=(replace(STATE.floors[0], security_version=4), STATE.floors[1])),
        replace(STATE, time_floor=STATE.time_floor - 1),
        replace(STATE, trust=StoredTrust(version=3, document=b"older")),
        replace(STATE, trust=StoredTrust(version=4, document=b"another of the same version")),
    ],
    ids=["floor gone", "floor lower", "time back", "older trust", "other trust"],
)
def test_a_successor_that_forgets_is_refused(successor):
    with pytest.raises(StateError):
        STATE.refuse_to_forget(successor)


@pytest.mark.parametrize("later", [0, 1])
def test_a_successor_with_the_same_floors_forgets_nothing(later):
    assert STATE.refuse_to_forget(replace(STATE, generation=4, time_floor=STATE.time_floor + later)) is None


def test_a_newer_trust_document_may_lower_a_floor():
    successor = replace(STATE, floors=(), trust=StoredTrust(version=5, document=b"newer"))
    assert STATE.refuse_to_forget(successor) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"floors": tuple(reversed(STATE.floors))},
        {"floors": STATE.floors[:1] * 2},
        {"floors": (Floor(product="../digits", profile="p", security_version=0),)},
        {"floors": (Floor(product="digits", profile="", security_version=0),)},
        {"floors": tuple(Floor(product=f"{i:05}", profile="p", security_version=0) for i in range(1025))},
        {"time_floor": 2**64},
        {"generation": -1},
        {"trust": StoredTrust(version=1, document=bytes((256 << 10) + 1))},
    ],
    ids=["order", "twice", "product", "profile", "too many", "time", "generation", "document"],
)
def test_a_state_that_could_not_be_written_is_refused(changes):
    with pytest.raises(StateError):
        replace(STATE, **changes)


def test_as_much_as_may_be_is_remembered():
    floors = tuple(Floor(product=f"p{i:04}", profile="b", security_version=2**64 - 1) for i in range(1024))
    trust = StoredTrust(version=2**64 - 1, document=bytes(256 << 10))
    full = DeviceState(generation=2**64 - 1, floors=floors, time_floor=2**64 - 1, trust=trust)
    assert (DeviceState.from_bytes(full.to_bytes(KEY), KEY), len(full.to_bytes(KEY))) == (full, MAX_STATE_BYTES)
