"""zstd entries: one frame of the signed size, or nothing; and a clear word where zstd is missing."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

import bundlekit
from bundlekit import HEADER, POLICY, Recipe, check, open_all, seed, sign_again, stored_entries
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

    def watched(packed: bytearray, into: memoryview) -> None:
        seen.append(packed)
        assert any(packed)
        decompress(packed, into)

    monkeypatch.setattr("edgepack_runtime.verify.decompress", watched)
    open_all(bundle(frame()), policy=EVERYTHING)
    assert [any(packed) for packed in seen] == [False]


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


@pytest.mark.parametrize("size", [0, 3, 4, 5, 8, 9, 100, -1])
def test_a_frame_that_is_cut_short_is_refused(size: int) -> None:
    refused(frame()[:size], "zstd")


def test_every_changed_byte_is_refused_or_changes_nothing_that_was_signed() -> None:
    zstandard = pytest.importorskip("zstandard")
    packed = frame(seed("small", 40) * 8)
    for at in range(len(packed)):
        for bit in range(8):
            altered = bytearray(packed)
            altered[at] ^= 1 << bit
            into = memoryview(bytearray(320))
            try:
                decompress(altered, into)
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
