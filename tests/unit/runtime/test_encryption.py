"""Chunked encryption: against published vectors, against the library's own, and against tampering."""

from __future__ import annotations

import hashlib
import json
import threading
import zlib
from pathlib import Path

import pytest

from bundlekit import plain_length, seed
from edgepack_runtime.encryption import (
    CHUNK_SIZE,
    ENTRY_HEADER_SIZE,
    SEGMENT_CHUNKS,
    TAG_SIZE,
    PayloadSuite,
    check_segments,
    copy_entry,
    decrypt_entry,
    encrypt_entry,
    encrypt_segments,
    segment_count,
    segment_digests,
    segment_spans,
    stored_length,
)
from edgepack_runtime.errors import PayloadError

VECTORS = (
    Path(__file__).resolve().parents[2] / "data" / "wycheproof" / "c2sp_chunked_encryption_aes_256_gcm_test.json"
)
CASES = [case for group in json.loads(VECTORS.read_text())["testGroups"] for case in group["tests"]]
KEY, CONTEXT = seed("key"), b"context"
COBBLESTONE = PayloadSuite.COBBLESTONE_256
SEGMENT = SEGMENT_CHUNKS * CHUNK_SIZE
LENGTHS = (0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT + 12345)


def decrypt(stored: bytes, length: int, *, key: bytes = KEY, context: bytes = CONTEXT) -> bytearray:
    """Return the plaintext as a fleet member would be fooled: whatever is stored has been signed."""
    into = bytearray(b"\xaa" * length)
    digests = segment_digests(COBBLESTONE, stored)
    decrypt_entry(key, context, digests, lambda at, size: stored[at : at + size], memoryview(into))
    return into


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"tc{case['tcId']}")
def test_every_wycheproof_vector_gets_its_verdict(case: dict[str, str]) -> None:
    stored = zlib.decompress(bytes.fromhex(case["ct"]))
    key, context = bytes.fromhex(case["key"]), bytes.fromhex(case["ctx"])
    length = plain_length(len(stored))
    try:
        if length is None:
            raise PayloadError("no plaintext has this stored length; the signed table refuses it")
        verdict = hashlib.sha512(decrypt(stored, length, key=key, context=context)).hexdigest()
    except (PayloadError, ValueError):
        verdict = "invalid"
    assert verdict == (case["msgSha512"] if case["result"] == "valid" else "invalid")


def test_the_vectors_hold_both_verdicts() -> None:
    assert {case["result"] for case in CASES} == {"valid", "invalid"}


@pytest.mark.parametrize("length", LENGTHS)
def test_what_was_encrypted_is_decrypted(length: int) -> None:
    plain = seed("plain", length)
    assert decrypt(encrypt_entry(KEY, CONTEXT, plain), length) == plain


@pytest.mark.parametrize("length", LENGTHS)
def test_the_library_reads_what_we_write(length: int) -> None:
    cobblestone = pytest.importorskip("cryptography.cobblestone", reason="cryptography 50 and later have it")
    plain = seed("plain", length)
    decryptor = cobblestone.Cobblestone256Decryptor(KEY, CONTEXT)
    assert decryptor.update(encrypt_entry(KEY, CONTEXT, plain)) + decryptor.finalize() == plain


@pytest.mark.parametrize("length", LENGTHS)
def test_we_read_and_write_the_very_bytes_the_library_writes(length: int) -> None:
    cobblestone = pytest.importorskip("cryptography.cobblestone", reason="cryptography 50 and later have it")
    plain = seed("plain", length)
    encryptor = cobblestone.Cobblestone256Encryptor(KEY, CONTEXT)
    theirs = encryptor.update(plain) + encryptor.finalize()
    assert decrypt(theirs, length) == plain
    assert encrypt_entry(KEY, CONTEXT, plain, salt=theirs[:24]) == theirs


@pytest.mark.parametrize("suite", PayloadSuite)
@pytest.mark.parametrize("length", LENGTHS)
def test_segments_cover_an_entry_once(suite: PayloadSuite, length: int) -> None:
    stored = stored_length(suite, length)
    spans = segment_spans(suite, stored)
    assert [byte for at, size in spans for byte in (at, at + size)] == [
        0,
        *(e for at, _ in spans[1:] for e in (at, at)),
        stored,
    ]
    assert len(spans) == segment_count(suite, stored)


def test_counting_the_segments_of_a_huge_entry_needs_no_memory() -> None:
    assert segment_count(COBBLESTONE, 2**64 - 1) == -(-(2**64 - 1 - ENTRY_HEADER_SIZE) // (SEGMENT_CHUNKS * 16400))


def test_each_stored_byte_is_read_once() -> None:
    stored = encrypt_entry(KEY, CONTEXT, seed("plain", 2 * SEGMENT))
    asked: list[tuple[int, int]] = []

    def read(at: int, size: int) -> bytes:
        asked.append((at, size))
        return stored[at : at + size]

    decrypt_entry(KEY, CONTEXT, segment_digests(COBBLESTONE, stored), read, memoryview(bytearray(2 * SEGMENT)))
    assert asked == list(segment_spans(COBBLESTONE, len(stored)))


@pytest.mark.parametrize(
    ("key", "context"), [(seed("another key"), CONTEXT), (KEY, b"another entry")], ids=["key", "context"]
)
def test_the_commitment_refuses_another(key: bytes, context: bytes) -> None:
    stored = encrypt_entry(KEY, CONTEXT, b"plain")
    with pytest.raises(PayloadError, match="commitment"):
        decrypt(stored, 5, key=key, context=context)


def failing_reads() -> dict[str, tuple[bytes, tuple[bytes, ...], type[BaseException]]]:
    """Return stored entries of three segments whose first segments are good: stored bytes, digests, error."""
    good = encrypt_entry(KEY, CONTEXT, seed("plain", 2 * SEGMENT + 5))
    digests = segment_digests(COBBLESTONE, good)
    forged = good[:-1] + bytes([good[-1] ^ 1])
    last = segment_spans(COBBLESTONE, len(good))[-1][0]
    return {
        "a segment that was not signed": (forged, digests, PayloadError),
        "a chunk forged and signed": (forged, segment_digests(COBBLESTONE, forged), PayloadError),
        "a file that ends": (good[:last], digests, PayloadError),
        "one byte short": (good[:-1], digests, PayloadError),
    }


@pytest.mark.parametrize("what", sorted(failing_reads()))
def test_a_failure_in_the_last_segment_wipes_the_first_ones(what: str) -> None:
    stored, digests, error = failing_reads()[what]
    into = bytearray(b"\xaa" * (2 * SEGMENT + 5))
    with pytest.raises(error):
        decrypt_entry(KEY, CONTEXT, digests, lambda at, size: stored[at : at + size], memoryview(into))
    assert not any(into)


def test_a_reader_that_fails_leaves_nothing_behind() -> None:
    stored = encrypt_entry(KEY, CONTEXT, seed("plain", SEGMENT + 5))
    into = bytearray(SEGMENT + 5)

    def read(at: int, size: int) -> bytes:
        if at > 0:
            raise OSError("the card was pulled out")
        return stored[at : at + size]

    with pytest.raises(OSError, match="pulled out"):
        decrypt_entry(KEY, CONTEXT, segment_digests(COBBLESTONE, stored), read, memoryview(into))
    assert not any(into)


def test_an_entry_in_clear_is_copied() -> None:
    plain = seed("plain", SEGMENT + 5)
    into = bytearray(len(plain))
    digests = segment_digests(PayloadSuite.PLAIN, plain)
    copy_entry(digests, lambda at, size: plain[at : at + size], memoryview(into))
    assert into == plain


def test_an_altered_entry_in_clear_is_wiped() -> None:
    plain = seed("plain", SEGMENT + 5)
    altered = plain[:-1] + bytes([plain[-1] ^ 1])
    into = bytearray(len(plain))
    digests = segment_digests(PayloadSuite.PLAIN, plain)
    with pytest.raises(PayloadError, match="segment 1 of 2"):
        copy_entry(digests, lambda at, size: altered[at : at + size], memoryview(into))
    assert not any(into)


def test_chunks_cannot_change_places_even_if_signed() -> None:
    stored = encrypt_entry(KEY, CONTEXT, seed("plain", 3 * CHUNK_SIZE))
    first, second = (slice(56 + i * 16400, 56 + (i + 1) * 16400) for i in (0, 1))
    swapped = stored[:56] + stored[second] + stored[first] + stored[second.stop :]
    with pytest.raises(PayloadError, match="not authentic"):
        decrypt(swapped, 3 * CHUNK_SIZE)


def test_whole_chunks_cannot_be_dropped_even_if_signed() -> None:
    stored = encrypt_entry(KEY, CONTEXT, seed("plain", 2 * CHUNK_SIZE))
    shorter = stored[: 56 + 16400] + stored[-TAG_SIZE:]
    with pytest.raises(PayloadError, match="not authentic"):
        decrypt(shorter, CHUNK_SIZE)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_length_is_an_error(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes"):
        encrypt_entry(bytes(size), CONTEXT, b"")


@pytest.mark.parametrize("size", [0, 23, 25])
def test_a_salt_of_another_length_is_an_error(size: int) -> None:
    with pytest.raises(ValueError, match=f"salt has {size} bytes"):
        encrypt_entry(KEY, CONTEXT, b"", salt=bytes(size))


def test_a_segment_that_ends_early_is_said() -> None:
    stored = encrypt_entry(KEY, CONTEXT, b"plain")
    digests = segment_digests(COBBLESTONE, stored)
    with pytest.raises(PayloadError, match="segment 0 has 76 of 77 bytes"):
        decrypt_entry(KEY, CONTEXT, digests, lambda at, size: stored[: size - 1], memoryview(bytearray(5)))


@pytest.mark.parametrize("length", [1, SEGMENT + 1])
def test_a_plaintext_that_ends_early_is_said(length: int) -> None:
    # What was signed says how long it is; a file that shrinks while it is packed must not make another table true.
    stored = encrypt_segments(KEY, CONTEXT, bytes(24), length, lambda at, size: bytes(size - (at + size == length)))
    with pytest.raises(ValueError, match=f"the plaintext ends after {length - 1} of {length} bytes"):
        list(stored)


@pytest.mark.parametrize("digests", [1, 3])
def test_another_number_of_digests_than_segments_is_an_error(digests: int) -> None:
    with pytest.raises(ValueError, match=f"{digests} digests for 2 segments"):
        check_segments(PayloadSuite.PLAIN, SEGMENT + 1, [bytes(32)] * digests, lambda at, size: bytes(size))


@pytest.mark.parametrize(("segments", "threads"), [(7, 1), (8, 2)])
def test_only_an_entry_of_several_segments_is_worth_a_second_thread(segments: int, threads: int) -> None:
    stored, readers = bytes(segments * SEGMENT), set[int]()
    both = threading.Barrier(threads, timeout=10)

    def read(at: int, size: int) -> bytes:
        readers.add(threading.get_ident())
        if at < 2 * SEGMENT:
            both.wait()
        return stored[at : at + size]

    check_segments(PayloadSuite.PLAIN, len(stored), segment_digests(PayloadSuite.PLAIN, stored), read)
    assert len(readers) == threads


def test_two_encryptions_of_one_entry_differ() -> None:
    assert encrypt_entry(KEY, CONTEXT, b"plain") != encrypt_entry(KEY, CONTEXT, b"plain")
