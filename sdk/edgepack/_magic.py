"""What a file that is no model probably is, for error messages only."""

from __future__ import annotations

from collections.abc import Set

__all__ = ["looks_like", "zip_looks_like"]

_PICKLE = "export the model to ONNX with its own library (PyTorch: torch.onnx.export)"
_MAGIC: tuple[tuple[bytes, str, str | None], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image", None),
    (b"\xff\xd8\xff", "a JPEG image", None),
    (b"GIF8", "a GIF image", None),
    (b"RIFF", "a RIFF file (WAV, WebP)", None),
    (b"%PDF", "a PDF document", None),
    (b"\x7fELF", "an ELF program or library", None),
    (b"\x1f\x8b", "a gzip file", "unpack it first"),
    (b"BZh", "a bzip2 file", "unpack it first"),
    (b"\xfd7zXZ\0", "an xz file", "unpack it first"),
    (b"7z\xbc\xaf'\x1c", "a 7-Zip archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it first"),
    (b"\x93NUMPY", "a NumPy array", None),
    (b"GGUF", "a GGUF language model", None),
    (b"ORTM", "an ONNX Runtime .ort model", "give the .onnx file it was made from"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
)


def looks_like(head: bytes) -> tuple[str, str | None]:
    """Return a guess ("a PNG image") from a file's first bytes, and a way out or None."""
    for magic, kind, hint in _MAGIC:
        if head.startswith(magic):
            return kind, hint
    if head[4:8] == b"ORTM":
        return "an ONNX Runtime .ort model", "give the .onnx file it was made from"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle, which would execute code when loaded", _PICKLE
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 30:
        return "a safetensors file: weights without a model", "export the model with its layers, e.g. to ONNX"
    if head[257:262] == b"ustar":
        return "a tar archive", "unpack it first"
    if head.lstrip()[:1] == b"<":
        return "an HTML or XML page, perhaps of a failed download", None
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The head may end inside a character; that alone makes no binary file.
        text = head[: error.start].decode("utf-8") if len(head) - error.start < 4 else "\0"
    if text.isprintable() or not any(ord(c) < 32 and c not in "\t\r\n\f" for c in text):
        return "text", None
    return "binary data of no known kind, or a damaged ONNX file", None


def zip_looks_like(names: Set[str]) -> tuple[str, str | None]:
    """Return a guess from the names in a zip file, and a way out or None."""
    if names and all(name.endswith(".npy") for name in names):
        return "NumPy arrays (.npz)", None
    return "a zip archive", None
