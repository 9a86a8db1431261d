"""A small bundle with every bit flipped and every byte cut off: always a `BundleError`, never a byte of plaintext.

Deeper in, where a flip cannot get because a signature stands before it, the mutated bytes are signed again: the
parser must withstand a publisher too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundlekit import (
    ENTRIES,
    HEADER,
    POLICY,
    Parts,
    Recipe,
    container,
    ed25519,
    make,
    open_all,
    p256,
    read,
    sign_again,
    trust,
    x25519,
)
from edgepack_runtime.container import (
    Grant,
    Preamble,
    assemble_front,
    parse_grants,
    parse_signatures,
)
from edgepack_runtime.encryption import PayloadSuite
from edgepack_runtime.errors import BundleError, PayloadError
from edgepack_runtime.grants import DeviceKey
from edgepack_runtime.signing import SigningKey
from edgepack_runtime.table import SignedTable
from edgepack_runtime.verify import VerifiedBundle, verify

QUICK = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A good bundle: the file, who signed it, the key that opens it, and the grants that lie beside it."""

    data: bytes
    signers: tuple[SigningKey, ...]
    key: DeviceKey | None
    beside: tuple[Grant, ...]


def golden(recipe: Recipe, *, beside: bool = False) -> Golden:
    parts, key = make(recipe), recipe.recipients[0] if recipe.recipients else None
    grants = parts.grants if beside else ()
    return Golden(
        data=(replace(parts, grants=()) if beside else parts).file(), signers=recipe.signers, key=key, beside=grants
    )


KINDS: dict[str, Callable[[], Golden]] = {
    "ed25519 and x25519": lambda: golden(Recipe()),
    "p256 and p256": lambda: golden(Recipe(signers=(p256(),), recipients=(p256("device"),))),
    "two signers, in clear": lambda: golden(
        Recipe(header=replace(HEADER, suite=PayloadSuite.PLAIN), signers=(ed25519(), p256()), recipients=())
    ),
    "its grant in a sidecar": lambda: golden(Recipe(entries=ENTRIES[1:2]), beside=True),
}


@pytest.fixture(params=KINDS, scope="module")
def good(request: pytest.FixtureRequest) -> Golden:
    return KINDS[request.param]()


def opened(good: Golden, data: bytes) -> VerifiedBundle:
    """Return the verified bundle, after its grant was opened too."""
    bundle = verify(container(data), trust(*good.signers, threshold=len(good.signers)), POLICY)
    bundle.unlock(good.key, good.beside).close()
    return bundle


def test_no_bit_before_the_payload_can_be_flipped(good: Golden) -> None:
    data = bytearray(good.data)
    accepted = []
    for at in range(Preamble.parse(good.data).front_length):
        for bit in range(8):
            data[at] ^= 1 << bit
            try:
                opened(good, bytes(data))
                accepted.append((at, bit))
            except BundleError:
                pass
            data[at] ^= 1 << bit
    # Any other exception ends the test by itself.
    assert accepted == []


def test_no_bit_of_the_payload_can_be_flipped(good: Golden) -> None:
    data, bundle = bytearray(good.data), opened(good, good.data)
    start, wrong = bundle.container.preamble.front_length, []
    for entry in bundle.entries:
        for at in range(start + entry.offset, start + entry.offset + entry.stored_length):
            for bit in range(8):
                data[at] ^= 1 << bit
                into, error = read(bundle, bytes(data), entry.name, good.key, good.beside)
                if type(error) is not PayloadError or any(into):
                    wrong.append((at, bit, error))
                data[at] ^= 1 << bit
    assert wrong == []


def test_the_flips_covered_the_whole_file(good: Golden) -> None:
    bundle = opened(good, good.data)
    assert bundle.container.preamble.front_length + sum(e.stored_length for e in bundle.entries) == len(good.data)


def test_cut_anywhere_a_bundle_is_refused(good: Golden) -> None:
    for size in range(len(good.data)):
        with pytest.raises(BundleError):
            opened(good, good.data[:size])


@pytest.mark.parametrize("extra", [b"\0", b"\xff", bytes(16), bytes(72), bytes(16400)])
def test_nothing_can_be_appended(good: Golden, extra: bytes) -> None:
    with pytest.raises(BundleError):
        opened(good, good.data + extra)


@pytest.mark.parametrize("size", [1, 16, 72, 1000])
def test_cut_with_a_preamble_that_agrees_a_bundle_is_refused(good: Golden, size: int) -> None:
    front, found = good.data[: Preamble.parse(good.data).front_length], container(good.data)
    payload = good.data[len(front) :][:-size]
    shorter = assemble_front(found.signed, found.signatures, found.grants, len(payload)) + payload
    with pytest.raises(BundleError):
        opened(good, shorter)


def test_the_parts_of_two_bundles_cannot_be_mixed() -> None:
    ours = make()
    theirs = make(
        header=replace(HEADER, security_version=8), entries=(*ENTRIES[:2], ("model.tflite", 1, bytes(1500)))
    )
    accepted = []
    for choice in range(1, 15):
        pick = {
            name: getattr(theirs if choice >> i & 1 else ours, name)
            for i, name in enumerate(("signed", "signatures", "grants", "payload"))
        }
        try:
            open_all(Parts(**pick).file())
            accepted.append(choice)
        except BundleError:
            pass
    assert accepted == []


@QUICK
@given(data=st.binary(max_size=400))
def test_any_bytes_are_refused_as_a_bundle(data: bytes) -> None:
    with pytest.raises(BundleError):
        open_all(data)


@QUICK
@given(rest=st.binary(max_size=400), lengths=st.tuples(*[st.integers(0, 200)] * 3))
def test_any_bytes_behind_a_good_preamble_are_refused(rest: bytes, lengths: tuple[int, int, int]) -> None:
    payload = max(0, len(rest) - sum(lengths))
    preamble = Preamble(
        signed_length=lengths[0], signatures_length=lengths[1], grants_length=lengths[2], payload_length=payload
    )
    with pytest.raises(BundleError):
        open_all(preamble.pack() + rest)


@QUICK
@given(block=st.binary(max_size=200), count=st.integers(0, 3))
def test_any_bytes_are_blocks_or_a_format_error(block: bytes, count: int) -> None:
    for parse in (parse_signatures, parse_grants):
        try:
            found = parse(struct.pack("<H", count) + block)
        except BundleError:
            continue
        assert len(found) == count


SIGNED = make().signed


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw the signed region with a few fields overwritten, perhaps cut or extended."""
    data = bytearray(SIGNED)
    for _ in range(draw(st.integers(1, 4))):
        size = draw(st.sampled_from([1, 2, 4, 8]))
        at = draw(st.integers(0, (len(data) - size) // size)) * size
        top = 256**size
        value = draw(st.sampled_from([0, 1, top - 1, top // 2, top // 2 - 1]) | st.integers(0, top - 1))
        data[at : at + size] = value.to_bytes(size, "little")
    if draw(st.booleans()):
        return bytes(data[: draw(st.integers(0, len(data)))])
    return bytes(data) + draw(st.binary(max_size=3))


@QUICK
@given(signed=mutated())
def test_a_mutated_table_is_refused_or_reads_back_the_same(signed: bytes) -> None:
    try:
        table = SignedTable.parse(signed)
    except BundleError:
        return
    # One way to write a thing: what is accepted is exactly what this library would write.
    assert table.pack() == signed


@QUICK
@given(signed=mutated())
def test_a_mutated_table_that_is_signed_opens_to_the_same_or_not_at_all(signed: bytes) -> None:
    payload = make().payload
    try:
        found = open_all(sign_again(Recipe(), signed, payload).file(), policy=replace(POLICY, profile=None))
    except BundleError:
        return
    assert sorted(found.values()) == sorted(data for _, _, data in ENTRIES)


@QUICK
@given(sealed=st.binary(min_size=80, max_size=80))
def test_any_sealed_bytes_are_refused(sealed: bytes) -> None:
    parts = make()
    with pytest.raises(BundleError):
        open_all(replace(parts, grants=(replace(parts.grants[0], sealed=sealed),)).file(), key=x25519())
