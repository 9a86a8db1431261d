"""The front of a file: every length is checked before it is used, and there is one way to write a block."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from bundlekit import make, p256, rsa3072, seed, x25519
from edgepack_runtime.container import (
    MAX_GRANTS_LENGTH,
    MAX_SIGNATURES_LENGTH,
    MAX_SIGNED_LENGTH,
    Container,
    Grant,
    Preamble,
    Signature,
    assemble_front,
    pack_grants,
    pack_signatures,
    parse_grants,
    parse_signatures,
)
from edgepack_runtime.errors import FormatError

GOOD = Preamble(signed_length=1000, signatures_length=100, grants_length=200, payload_length=5000)


def test_the_preamble_is_thirty_two_bytes_and_reads_back() -> None:
    assert (len(GOOD.pack()), Preamble.parse(GOOD.pack())) == (32, GOOD)


def test_the_length_of_the_file_follows_from_the_preamble() -> None:
    assert (GOOD.front_length, GOOD.file_length) == (1332, 6332)


@pytest.mark.parametrize("size", [0, 1, 8, 31])
def test_a_short_preamble_is_refused(size: int) -> None:
    with pytest.raises(FormatError, match=f"{size} bytes, wanted 32"):
        Preamble.parse(GOOD.pack()[:size])


@pytest.mark.parametrize(
    ("field", "cap", "part"),
    [
        ("signed_length", MAX_SIGNED_LENGTH, "signed region"),
        ("signatures_length", MAX_SIGNATURES_LENGTH, "signatures"),
        ("grants_length", MAX_GRANTS_LENGTH, "grants"),
    ],
)
@pytest.mark.parametrize("excess", [1, 2**31, 2**32 - 1])
def test_a_length_above_its_cap_is_refused(field: str, cap: int, part: str, excess: int) -> None:
    length = min(cap + excess, 2**32 - 1)
    with pytest.raises(FormatError, match=f"{part} of {length} bytes, at most {cap}"):
        Preamble.parse(replace(GOOD, **{field: length}).pack())


@pytest.mark.parametrize("field", ["signed_length", "signatures_length", "grants_length"])
def test_a_length_of_exactly_its_cap_is_accepted(field: str) -> None:
    caps = {"signed_length": 2**19, "signatures_length": 2**16, "grants_length": 2**20}
    assert getattr(Preamble.parse(replace(GOOD, **{field: caps[field]}).pack()), field) == caps[field]


def test_the_reserved_field_must_be_zero() -> None:
    data = bytearray(GOOD.pack())
    data[20] = 1
    with pytest.raises(FormatError, match="reserved"):
        Preamble.parse(bytes(data))


def test_a_plain_model_is_named_as_such() -> None:
    with pytest.raises(FormatError, match="no edgepack bundle") as caught:
        Preamble.parse(b"\x1c\0\0\0TFL3" + bytes(100))
    assert "plain .tflite model" in str(caught.value.hint)


def test_a_text_mode_transfer_is_recognised() -> None:
    with pytest.raises(FormatError, match="wrong magic") as caught:
        Preamble.parse(GOOD.pack().replace(b"\r\n", b"\n") + b"\0")
    assert "text-mode" in str(caught.value.hint)


@pytest.mark.parametrize("extra", [-1, 1, 2**31, 2**32, 2**63])
def test_a_file_of_another_length_is_refused(extra: int) -> None:
    data = make().file()
    front = data[: Preamble.parse(data).front_length]
    with pytest.raises(FormatError, match="its preamble says"):
        Container.from_front(front, len(data) + extra)


@pytest.mark.parametrize("payload_length", [2**31 - 1, 2**31, 2**32, 2**63, 2**64 - 1])
def test_huge_payloads_cost_nothing_to_refuse(payload_length: int) -> None:
    data = replace(GOOD, payload_length=payload_length).pack()
    with pytest.raises(FormatError, match="its preamble says"):
        Container.from_front(data, len(data))


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_front_of_another_length_is_refused(extra: int) -> None:
    data = make().file()
    with pytest.raises(FormatError, match="front"):
        Container.from_front(data[: Preamble.parse(data).front_length + extra], len(data))


# --- signatures ------------------------------------------------------------------------------------------------

A, B = (Signature(key_id=bytes([i]) * 32, value=b"signature") for i in (1, 2))


def raw_signatures(*signatures: Signature, count: int | None = None) -> bytes:
    block = struct.pack("<H", len(signatures) if count is None else count)
    return block + b"".join(s.key_id + struct.pack("<H", len(s.value)) + s.value for s in signatures)


def test_signatures_are_written_in_the_order_of_their_keys() -> None:
    assert parse_signatures(pack_signatures([B, A])) == (A, B)


@pytest.mark.parametrize(
    "order", [(B, A), (A, A), (A, replace(A, value=b"another"))], ids=["descending", "twice", "one key"]
)
def test_signatures_in_another_order_or_by_one_key_are_refused(order: tuple[Signature, ...]) -> None:
    with pytest.raises(FormatError, match="not strictly ascending"):
        parse_signatures(raw_signatures(*order))


@pytest.mark.parametrize("count", [0, 17])
def test_there_are_one_to_sixteen_signatures(count: int) -> None:
    with pytest.raises(FormatError, match=f"{count} of them"):
        parse_signatures(raw_signatures(*(replace(A, key_id=bytes([i]) * 32) for i in range(count))))


def test_sixteen_signatures_are_read() -> None:
    assert len(parse_signatures(raw_signatures(*(replace(A, key_id=bytes([i]) * 32) for i in range(16))))) == 16


def test_a_signatures_block_cut_anywhere_is_refused() -> None:
    block = pack_signatures([A, B])
    for size in range(len(block)):
        with pytest.raises(FormatError, match=r"cut short|wanted at least 2"):
            parse_signatures(block[:size])


def test_bytes_after_the_last_signature_are_refused() -> None:
    with pytest.raises(FormatError, match="1 bytes are left over"):
        parse_signatures(pack_signatures([A]) + b"\0")


def test_a_block_of_signatures_too_long_is_not_written() -> None:
    with pytest.raises(FormatError, match="signatures: 80070 bytes, at most 65536"):
        pack_signatures([replace(A, value=bytes(40000)), replace(B, value=bytes(40000))])


def test_a_count_that_lies_is_refused() -> None:
    with pytest.raises(FormatError, match="left over"):
        parse_signatures(raw_signatures(A, B, count=1))


# --- grants ----------------------------------------------------------------------------------------------------

G, H = (Grant(kind=1, key_id=bytes([i]) * 32, sealed=bytes(80)) for i in (1, 2))


def raw_grants(*grants: Grant, reserved: int = 0) -> bytes:
    return struct.pack("<H", len(grants)) + b"".join(
        struct.pack("<BBH", g.kind, reserved, len(g.sealed)) + g.key_id + g.sealed for g in grants
    )


def test_grants_are_written_in_the_order_of_their_keys() -> None:
    assert parse_grants(pack_grants([H, G])) == (G, H)


def test_a_bundle_may_have_no_grants() -> None:
    assert parse_grants(pack_grants([])) == ()


@pytest.mark.parametrize("order", [(H, G), (G, G)], ids=["descending", "twice"])
def test_grants_in_another_order_or_for_one_key_are_refused(order: tuple[Grant, ...]) -> None:
    with pytest.raises(FormatError, match="not strictly ascending"):
        parse_grants(raw_grants(*order))


@pytest.mark.parametrize(("kind", "size"), [(1, 79), (1, 81), (2, 80), (3, 383)])
def test_a_grant_of_another_size_than_its_kinds_is_refused(kind: int, size: int) -> None:
    with pytest.raises(FormatError, match=f"{size} bytes for kind {kind}"):
        parse_grants(raw_grants(replace(G, kind=kind, sealed=bytes(size))))


def test_a_grant_of_a_kind_from_the_future_is_kept() -> None:
    future = replace(G, kind=200, sealed=bytes(1168))
    assert parse_grants(raw_grants(future, H)) == (future, H)


def test_the_reserved_byte_of_a_grant_must_be_zero() -> None:
    with pytest.raises(FormatError, match="reserved"):
        parse_grants(raw_grants(G, reserved=1))


def test_a_grants_block_cut_anywhere_is_refused() -> None:
    block = pack_grants([G, H])
    for size in range(len(block)):
        with pytest.raises(FormatError, match=r"cut short|wanted at least 2"):
            parse_grants(block[:size])


def test_bytes_after_the_last_grant_are_refused() -> None:
    with pytest.raises(FormatError, match="1 bytes are left over"):
        parse_grants(pack_grants([G]) + b"\0")


def test_a_front_with_too_many_grants_is_not_written() -> None:
    many = [replace(G, key_id=seed(str(i))) for i in range(9100)]
    with pytest.raises(FormatError, match=r"grants: .* at most"):
        assemble_front(b"", [A], many, 0)


def test_a_front_with_a_signed_region_too_long_is_not_written() -> None:
    with pytest.raises(FormatError, match="signed region: 524289 bytes"):
        assemble_front(bytes(MAX_SIGNED_LENGTH + 1), [A], [], 0)


def test_a_front_reads_back_as_it_was_written() -> None:
    parts = make(recipients=(x25519(), p256("device"), rsa3072()))
    data = parts.file()
    found = Container.from_front(data[: Preamble.parse(data).front_length], len(data))
    assert (found.signed, found.signatures, set(found.grants)) == (parts.signed, parts.signatures, set(parts.grants))
