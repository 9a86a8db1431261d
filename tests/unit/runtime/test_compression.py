"""zstd entries: one frame of the signed size, or nothing; and a clear word where zstd is missing."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

import bundlekit
from bundlekit import HEADER, POLICY, Recipe, check, open_all, seed, sign_again, stored_entries
from edgepack_runtime._room import Room, room_in, wipe
from edgepack_runtime.compression import MAX_WINDOW, NO_COMPRESSION, ZSTD, decompress, supported
from edgepack_runtime.encryption import encrypt_entry, entry_context, segment_digests
from edgepack_runtime.errors import FormatError, IncompatibleError, PayloadError
from edgepack_runtime.table import Entry, EntryRole, SignedTable

CONTENT = seed("piece", 500) * 900
EVERYTHING = replace(POLICY, compressions=frozenset({NO_COMPRESSION, ZSTD}))


def frame(data: bytes = CONTENT, **options: int) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    parameters = {"window_log": 20, "write_content_size": 1, "write_checksum": 0} | options
    made = zstandard.ZstdCompressionParameters.from_level(3, **parameters)
    return zstandard.ZstdCompressor(compression_params=made).compress(data)


def bundle(packed: bytes, content_length: int = len(CONTENT)) -> bytes:
    """Return a bundle whose one entry is `packed`, signed to unpack to `content_length` bytes."""
    context = entry_context(HEADER.bundle_id, HEADER.profile_digest, "model.tflite")
    stored = encrypt_entry(Recipe().content_key, context, packed, salt=seed("salt", 24))
    entry = Entry(
        name="model.tflite",
        role=EntryRole.MODEL,
        offset=0,
        stored_length=len(stored),
        plain_length=len(packed),
        content_length=content_length,
        compression=ZSTD,
        digests=segment_digests(HEADER.suite, stored),
    )
    signed = SignedTable(header=HEADER, entries=(entry,), manifest=b"{}").pack()
    return sign_again(Recipe(), signed, stored).file()


def refused(packed: bytes, complaint: str, content_length: int = len(CONTENT)) -> None:
    data = bundle(packed, content_length)
    into, error = bundlekit.read(check(data, policy=EVERYTHING), data, "model.tflite", bundlekit.x25519())
    assert isinstance(error, PayloadError)
    assert (complaint in str(error), any(into)) == (True, False), str(error)


def test_a_compressed_entry_opens_to_its_content() -> None:
    assert open_all(bundle(frame()), policy=EVERYTHING) == {"model.tflite": CONTENT}


def test_the_packed_plaintext_is_overwritten_after_use(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytearray] = []

    def watched(packed: bytearray, into: Room) -> None:
        seen.append(packed)
        assert any(packed)
        decompress(packed, into)

    monkeypatch.setattr("edgepack_runtime.verify.decompress", watched)
    open_all(bundle(frame()), policy=EVERYTHING)
    assert [any(packed) for packed in seen] == [False]


def test_what_was_unpacked_on_the_way_is_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[bytes] = []
    buffers: list[memoryview] = []

    def watched(buffer: memoryview) -> None:
        before.append(bytes(buffer))
        buffers.append(buffer)
        wipe(buffer)

    monkeypatch.setattr("edgepack_runtime.compression.wipe", watched)
    open_all(bundle(frame()), policy=EVERYTHING)
    assert ([CONTENT.endswith(piece) for piece in before], any(map(any, buffers))) == ([True], False)


def test_a_frame_with_a_checksum_opens_too() -> None:
    assert open_all(bundle(frame(write_checksum=1)), policy=EVERYTHING) == {"model.tflite": CONTENT}


def test_a_reader_without_zstd_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bundle(b"frame")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(IncompatibleError, match=r"entry 'model.tflite': compression 1 is not supported") as caught:
        check(data, policy=replace(POLICY, compressions=supported()))
    assert caught.value.hint == "it is zstd: pip install 'edgepack-runtime[zstd]'"


def test_a_reader_with_zstd_says_so() -> None:
    pytest.importorskip("zstandard")
    assert supported() == {NO_COMPRESSION, ZSTD}


@pytest.mark.parametrize("length", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_another_size_than_was_signed_is_refused(length: int) -> None:
    refused(frame(), "bytes were signed, the zstd frame says", length)


def test_a_bomb_that_tells_a_small_size_is_refused() -> None:
    packed = bytearray(frame(bytes(1 << 20)))
    # The frame header's content size: a single segment of four bytes.
    at = packed.index((1 << 20).to_bytes(4, "little"))
    packed[at : at + 4] = (4096).to_bytes(4, "little")
    refused(bytes(packed), "zstd", 4096)


@pytest.mark.parametrize("tail", [b"\0", b"another frame", b"a skippable one"])
def test_whatever_follows_the_frame_is_refused(tail: bytes) -> None:
    tails = {b"another frame": frame(b"x"), b"a skippable one": b"\x50\x2a\x4d\x18\0\0\0\0"}
    refused(frame() + tails.get(tail, tail), "were decrypted")


def test_a_skippable_frame_before_it_is_refused() -> None:
    refused(b"\x50\x2a\x4d\x18\0\0\0\0" + frame(), "no zstd frame")


def test_a_frame_that_does_not_tell_its_size_is_refused() -> None:
    refused(frame(write_content_size=0), "the zstd frame says nothing")


def test_a_larger_window_than_allowed_is_refused() -> None:
    big = seed("big", 1000) * ((MAX_WINDOW + (4 << 20)) // 1000)
    refused(frame(big, window_log=24), "at most 8388608 are allowed", len(big))


@pytest.mark.parametrize("size", [0, 3, 4])
def test_a_frame_that_is_cut_in_its_magic_is_none(size: int) -> None:
    refused(frame()[:size], "no zstd frame")


@pytest.mark.parametrize("size", [5, 8, 9])
def test_a_frame_that_is_cut_in_its_header_is_refused(size: int) -> None:
    refused(frame()[:size], "the zstd frame is cut short")


@pytest.mark.parametrize("size", [100, -1])
def test_a_frame_that_is_cut_in_a_block_is_refused(size: int) -> None:
    refused(frame()[:size], "the zstd frame")


# Frames put together by hand: what zstd would not write.

RAW, RLE, RESERVED = 0, 1, 3
SINGLE_SEGMENT_OF_4_BYTES = 0xA0


def block(kind: int, length: int, data: bytes, *, last: bool = True) -> bytes:
    return (last | kind << 1 | length << 3).to_bytes(3, "little") + data


def handmade(size: int, *blocks: bytes, flags: int = SINGLE_SEGMENT_OF_4_BYTES, between: bytes = b"") -> bytearray:
    head = b"\x28\xb5\x2f\xfd" + bytes([flags]) + between + size.to_bytes(4, "little")
    return bytearray(head + b"".join(blocks))


def unpacked(packed: bytearray, size: int) -> bytes:
    pytest.importorskip("zstandard")
    into = bytearray(size)
    decompress(packed, room_in(memoryview(into)))
    return bytes(into)


def test_a_raw_block_and_an_empty_one_after_it_are_unpacked() -> None:
    packed = handmade(3, block(RAW, 3, b"abc", last=False), block(RAW, 0, b""))
    assert unpacked(packed, 3) == b"abc"


def test_a_block_of_128_kib_is_unpacked() -> None:
    assert unpacked(handmade(128 << 10, block(RLE, 128 << 10, b"x")), 128 << 10) == b"x" * (128 << 10)


def test_content_as_long_as_the_largest_window_is_unpacked() -> None:
    blocks = [block(RLE, 128 << 10, b"x", last=i == 63) for i in range(64)]
    assert unpacked(handmade(MAX_WINDOW, *blocks), MAX_WINDOW) == b"x" * MAX_WINDOW


@pytest.mark.parametrize(
    ("packed", "complaint"),
    [
        (handmade((128 << 10) + 1, block(RLE, (128 << 10) + 1, b"x")), "a zstd block of no known kind"),
        (handmade(3, block(RESERVED, 3, b"abc")), "a zstd block of no known kind"),
        (handmade(3, block(RAW, 3, b"abc"), flags=0xA8), "a zstd frame with flags 0xa8"),
        (handmade(3, block(RAW, 3, b"abc"), flags=0xA1, between=b"\1"), "a zstd frame with flags 0xa1"),
        (handmade(3, block(RAW, 2, b"ab")), "zstd cannot unpack it"),
        (handmade(3, block(RAW, 4, b"abcd")), "zstd cannot unpack it"),
    ],
)
def test_a_handmade_frame_is_refused(packed: bytearray, complaint: str) -> None:
    with pytest.raises(PayloadError, match=complaint):
        unpacked(packed, (128 << 10) + 1 if b"x" in packed else 3)


def test_an_empty_frame_that_does_not_tell_its_size_is_refused() -> None:
    with pytest.raises(PayloadError, match="0 bytes were signed, the zstd frame says nothing"):
        unpacked(bytearray(frame(b"", write_content_size=0)), 0)


def test_every_changed_byte_is_refused_or_changes_nothing_that_was_signed() -> None:
    zstandard = pytest.importorskip("zstandard")
    packed = frame(seed("small", 40) * 8)
    for at in range(len(packed)):
        for bit in range(8):
            altered = bytearray(packed)
            altered[at] ^= 1 << bit
            into = memoryview(bytearray(320))
            try:
                decompress(altered, room_in(into))
            except PayloadError:
                continue
            # A changed literal: what was signed is the frame, so this cannot come from outside.
            assert zstandard.ZstdDecompressor().decompress(bytes(altered)) == bytes(into)


def test_an_entry_that_did_not_get_shorter_is_malformed() -> None:
    with pytest.raises(FormatError, match=r"content of 5 bytes, compressed to 5"):
        bundle(b"12345", 5)


def test_uncompressed_entries_need_no_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    data = bundlekit.make().file()
    assert len(open_all(data, policy=replace(POLICY, compressions=supported()))) == len(stored_entries(Recipe()))
