"""Packing piece by piece: what comes out opens, and a source that changes under the packer does not."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import bundlekit
import realbundle
from edgepack.errors import RecipeError
from edgepack.pack import Contents, EntrySource, Release, pack, pack_pieces
from edgepack.signers import SignerRequest, open_signer
from edgepack_runtime.compression import NO_COMPRESSION, ZSTD
from edgepack_runtime.golden import pack_golden
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.session import open_bundle
from edgepack_runtime.table import EntryRole
from edgepack_runtime.verify import Policy

SEGMENT = 1 << 20
POLICY = Policy(profile="bench-board", compressions=frozenset({NO_COMPRESSION, ZSTD}))
LENGTHS = [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT + 16384]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    path = tmp_path_factory.mktemp("keys") / "release.key.pem"
    path.write_bytes(bundlekit.ed25519().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Release(
        signing_key=open_signer(SignerRequest(uri=str(path), passphrase=None)),
        recipients=(bundlekit.x25519().public_key(),),
        security_version=7,
        created=1_750_000_000,
    )


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return realbundle.manifest(realbundle.model(), realbundle.profile())


def source(data: bytes, name: str = "a.bin") -> EntrySource:
    return EntrySource(name=name, role=EntryRole.ASSET, length=len(data), read=lambda at, size: data[at : at + size])


def opened(data: bytes) -> dict[str, bytes]:
    return bundlekit.open_all(data, policy=POLICY)


@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_packed_in_pieces_opens_to_the_same(
    release: Release, manifest: Manifest, length: int, encrypted: bool
) -> None:
    content = {"b.bin": bundlekit.seed("b", length), "a.bin": bundlekit.seed("a", 100)}
    sources = [source(data, name) for name, data in content.items()]
    made = replace(release, recipients=release.recipients if encrypted else ())
    assert opened(b"".join(pack_pieces(sources, manifest, made))) == content


def test_no_piece_is_longer_than_a_segment_with_its_tags(release: Release, manifest: Manifest) -> None:
    pieces = list(pack_pieces([source(bytes(3 * SEGMENT))], manifest, release))
    assert (len(pieces), max(map(len, pieces))) == (5, 64 * 16400 + 56)


def test_a_source_that_changes_while_it_is_packed_is_refused(release: Release, manifest: Manifest) -> None:
    content = bytearray(3 * SEGMENT)

    def read(at: int, size: int) -> bytes:
        found = bytes(content[at : at + size])
        content[0] = (content[0] + 1) % 256
        return found

    changing = EntrySource(name="a.bin", role=EntryRole.ASSET, length=len(content), read=read)
    pieces = pack_pieces([changing], manifest, release)
    next(pieces)
    with pytest.raises(RecipeError, match=r"entry 'a.bin' was changed while it was packed"):
        next(pieces)


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_source_that_is_shorter_than_it_says_is_refused(
    release: Release, manifest: Manifest, encrypted: bool
) -> None:
    lying = replace(source(bytes(10)), length=11)
    made = replace(release, recipients=release.recipients if encrypted else ())
    with pytest.raises(ValueError, match=r"ends after 10 of 11 bytes"):
        next(pack_pieces([lying], manifest, made))


def test_compression_is_used_where_it_saves_enough(release: Release, manifest: Manifest) -> None:
    pytest.importorskip("zstandard")
    contents = Contents(model=bundlekit.seed("weights", 1000) * 200, golden=bundlekit.seed("golden", 4000))
    data = pack(contents, manifest, replace(release, compress=True))
    entries = bundlekit.check(data, policy=POLICY).entries
    found = {entry.name: (entry.compression, entry.content_length) for entry in entries}
    assert found == {"golden.bin": (NO_COMPRESSION, 4000), "model.tflite": (ZSTD, 200_000)}
    assert opened(data) == {"golden.bin": contents.golden, "model.tflite": contents.model}


def test_a_compressed_bundle_runs_and_passes_its_self_test(release: Release, tmp_path: Path) -> None:
    pytest.importorskip("zstandard")
    what, board = realbundle.model(), realbundle.profile()
    contents = Contents(model=what.data, golden=pack_golden(what.golden, what.inputs, what.outputs))
    data = pack(contents, realbundle.manifest(what, board), replace(release, compress=True))
    (tmp_path / "m.edgepack").write_bytes(data)
    with open_bundle(tmp_path / "m.edgepack", device=realbundle.device()) as session:
        compressed = {entry.name: entry.compression for entry in session.bundle.entries}
        assert (compressed["model.tflite"], session.self_test().holds) == (ZSTD, True)


def test_a_large_entry_is_compressed_in_a_window_every_reader_takes(release: Release, manifest: Manifest) -> None:
    pytest.importorskip("zstandard")
    contents = Contents(model=bundlekit.seed("weights", 100_000) * 120, golden=b"x")
    data = pack(contents, manifest, replace(release, compress=True))
    assert opened(data)["model.tflite"] == contents.model


def test_compression_without_zstandard_is_refused_with_how_to_get_it(
    release: Release, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(RecipeError, match=r"needs zstandard") as caught:
        pack(Contents(model=b"m", golden=b"g"), manifest, replace(release, compress=True))
    assert caught.value.hint == "pip install 'edgepack[zstd]'"
