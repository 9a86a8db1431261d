"""Vectors of the manifest: strict JSON, its members, and that it says what the header says."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from edgepack_runtime.capabilities import SCHEMES
from tools.vectors.layout import Spec, parts
from tools.vectors.vector import ONE, Vector, good, refused

__all__ = ["TABLE", "digest_of", "manifest", "spec_of", "text_of"]

Path = tuple[str | int, ...]
_FIGURES = (
    "hardware.cores",
    "hardware.cpu_features",
    "hardware.ram_bytes",
    "engine.version",
    "engine.num_threads",
    "budget.ram_bytes",
    "budget.storage_bytes",
    "budget.latency_ms",
    "quantization.supported",
)
_TENSOR = {
    "name": "image",
    "dtype": "int8",
    "shape": [1, 8, 8, 1],
    "quantization": {"scale": [0.0625], "zero_point": [-128], "quantized_dimension": 0},
}
# A manifest of the header that every bundle here has.
TABLE: dict[str, Any] = {
    "manifest": 1,
    "name": ONE.product,
    "version": "1.2.0",
    "licence": "Apache-2.0",
    "profile": {
        "schema": 1,
        "name": ONE.profile,
        "description": "a board",
        "aliases": ["rpi4"],
        "hardware": {
            "board": "Pi 4",
            "soc": "BCM2711",
            "arch": "aarch64",
            "cpu": "Cortex-A72",
            "cores": 4,
            "cpu_features": ["fp", "asimd"],
            "ram_bytes": 2**30,
        },
        "software": {"os": "Debian", "libc": "glibc 2.36", "python": "3.11"},
        "engine": {"name": ONE.engine, "version": ONE.engine_version, "num_threads": 4},
        "budget": {"ram_bytes": 2**28, "storage_bytes": 2**28, "latency_ms": 12.5},
        "quantization": {"supported": ["full_integer", "float32"]},
        "sources": {figure: {"kind": "assumed", "text": "why"} for figure in _FIGURES},
    },
    "model": {
        "entry": "model.tflite",
        "scheme": "full_integer",
        "inputs": [_TENSOR],
        "outputs": [],
        "stateful": False,
    },
    "golden": {"entry": "golden.bin", "samples": 2, "tolerance": 0.05},
    "labels": ["zero", "one"],
    "provenance": {
        "tool": "a tool",
        "source_format": "onnx",
        "source_digest": "00",
        "calibration_digest": "",
        "evaluation_digest": "",
        "steps": [{"use": "convert", "tool": "t", "options": "{}", "input_digest": "00", "output_digest": "01"}],
        "notes": ["a note"],
    },
    "evidence": [
        {
            "check": "accuracy",
            "holds": True,
            "verdict": "measured",
            "found": "0.97",
            "wanted": "0.9",
            "environment": "here",
            "value": 0.97,
            "low": 0.95,
            "high": 0.99,
        }
    ],
}
_OPTIONAL = {"aliases", "quantization", "quantized_dimension", "value", "low", "high"}


def text_of(table: object) -> bytes:
    """Return the canonical text."""
    return json.dumps(table, sort_keys=True, separators=(",", ":")).encode()


def digest_of(profile: dict[str, Any]) -> bytes:
    """Return the SHA-256 of a profile's canonical JSON, what is optional filled in."""
    whole = {"aliases": [], **profile, "budget": dict(profile["budget"])}
    if "latency_ms" in whole["budget"]:
        whole["budget"]["latency_ms"] = float(whole["budget"]["latency_ms"])
    return hashlib.sha256(text_of(whole)).digest()


def spec_of(table: dict[str, Any], text: bytes | None = None, spec: Spec = ONE) -> Spec:
    """Return a bundle with this manifest, by default as its canonical text, and the digest of its profile."""
    return replace(
        spec, manifest=text_of(table) if text is None else text, profile_digest=digest_of(table["profile"])
    )


def manifest() -> Iterator[Vector]:
    """What a reader of manifests must take, and what it must not. One to which they are opaque skips the group."""
    for name, spec in (*_good(), *_good_reals()):
        yield good(name, parts(spec).file(), spec, reads_manifest=True)
    for name, text in _no_json():
        yield _refused(name, spec_of(TABLE, text))
    for name, table in (*_members(), *_values()):
        yield _refused(name, spec_of(TABLE, text_of(table)))
    for name, path, value in _together():
        # The digest is that of the profile as it is: another rule refuses.
        yield _refused(name, spec_of(_with(path, value)))
    yield from _header()


def _refused(name: str, spec: Spec) -> Vector:
    return refused(name, parts(spec).file(), ("meta", 0), reads_manifest=True)


def _with(path: Path, *value: object) -> dict[str, Any]:
    """Return the table with another value there, or with nothing."""
    table: Any = copy.deepcopy(TABLE)
    *way, last = path
    inner = table
    for step in way:
        inner = inner[step]
    if value:
        inner[last] = value[0]
    else:
        del inner[last]
    return table  # type: ignore[no-any-return]


def _paths(value: object, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every member; the first source stands for all of them."""
    items: Iterable[tuple[Any, object]] = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else items:
        here = (*path, key)
        if isinstance(key, str):
            yield here
        if path[-1:] != ("sources",) or key == _FIGURES[0]:
            yield from _paths(item, here)


def _shown(path: Path) -> str:
    return "/".join(map(str, path))


def _good() -> Iterator[tuple[str, Spec]]:
    yield "canonical", spec_of(TABLE)
    other_way = dict(reversed(TABLE.items()))
    yield "indented, in another order", spec_of(TABLE, json.dumps(other_way, indent=2).encode())
    yield "white space all around", spec_of(TABLE, b" \t\r\n" + text_of(TABLE).replace(b":", b"\n:\t") + b" \t\r\n")
    escaped = "".join(f"\\u{ord(c):04X}" if c.isalpha() else c for c in text_of(TABLE).decode())
    for word in ("true", "false"):
        escaped = escaped.replace("".join(f"\\u{ord(c):04X}" for c in word), word)
    yield "escapes for letters, in names too", spec_of(TABLE, escaped.encode())
    bare = _with(("profile", "aliases"))
    del bare["profile"]["budget"]["latency_ms"], bare["profile"]["sources"]["budget.latency_ms"]
    del bare["model"]["inputs"][0]["quantization"]
    bare["evidence"] = [{key: item for key, item in bare["evidence"][0].items() if key not in _OPTIONAL}]
    yield "without anything optional", spec_of(bare)
    nothing = _with(("provenance", "steps"), [])
    nothing |= {"labels": [], "evidence": [], "version": "", "licence": ""}
    nothing["model"] |= {"inputs": [], "outputs": [], "entry": ""}
    nothing["profile"]["hardware"]["cpu_features"] = []
    yield "empty lists and texts", spec_of(nothing)
    for scheme in (*SCHEMES[1:], "mixed", "as_is"):
        yield f"a model that is {scheme}", spec_of(_with(("model", "scheme"), scheme))
    yield "integers for numbers", spec_of(_with(("golden", "tolerance"), 1))
    yield "minus zero for an integer", spec_of(TABLE, text_of(TABLE).replace(b"[-128]", b"[-0]"))
    yield "the largest integer", spec_of(_with(("profile", "budget", "storage_bytes"), 2**53 - 1))
    yield "the least integer", spec_of(_with(("model", "inputs", 0, "quantization", "zero_point"), [1 - 2**53]))
    words = ["", "\0", 'a "\\/\b\f\n\r\t\x7f', "\x80\u2028\ufeff\uffff", "Öl", "カメラ", "\U00010000\U0010ffff"]
    yield "text beyond ASCII", spec_of(_with(("labels",), words))
    raw = json.dumps(_with(("labels",), words[4:]), ensure_ascii=False).encode()
    yield "text beyond ASCII in UTF-8", spec_of(TABLE, raw)
    line = "\xa0\xad\u200b\u2030\u2065\ue000\U0001f600" + "\U0010fffd" * 993
    described = _with(("profile", "description"), line)
    yield "a line of 1,000 characters", spec_of(described)
    yield "the same in UTF-8", spec_of(described, json.dumps(described, ensure_ascii=False).encode())
    shape = [-1, 0, 1, 1, 1, 1, 1, 2**53 - 1]
    yield "a shape of 8 dimensions", spec_of(_with(("model", "inputs", 0, "shape"), shape))
    yield "a 32-bit board", spec_of(_with(("profile", "hardware", "arch"), "armv7l"))
    yield "the highest versions", spec_of(_with(("profile", "software", "libc"), "musl 9999.9999"))


def _good_reals() -> Iterator[tuple[str, Spec]]:
    """The profile's digest needs them in canonical form."""
    for value in (
        *(1, 40, 0.1, 0.1 + 0.2, 100.0, 123456.789, 2.5e-3, 1e-4, 9.999e-5, 1e-5, 1.25e-7, 1e15, 1e16, 1.5e16, 1e22),
        *(1e23, 9007199254740993.0, 9999999999999998.0, 123456789012345680.0, 2.0**-1022, 5e-324, 1e100),
        *(1.7976931348623157e308, 4.35, 0.000123456789012345),
    ):
        yield f"a latency of {value!r}", spec_of(_with(("profile", "budget", "latency_ms"), value))
    for text in (b"12.50", b"125e-1", b"0.125E+2", b"12.4999999999999999999999"):
        yield f"a latency written as {text.decode()}", spec_of(TABLE, text_of(TABLE).replace(b"12.5", text))


def _no_json() -> Iterator[tuple[str, bytes]]:
    """Yield texts that are no strict JSON. But for that they are the manifest wherever that can be."""
    text = text_of(TABLE)

    def label(item: bytes) -> bytes:
        return text.replace(b'"labels":["zero",', b'"labels":[' + item + b",")

    yield from {
        "empty": b"",
        "only white space": b" \n",
        "no JSON": b"manifest",
        "cut short": text[:-1],
        "two values": text + b"{}",
        "a comma after": text + b",",
        "a list": b"[" + text + b"]",
        "a number": b"1",
        "null": b"null",
        "a member twice": text[:-1] + b',"manifest":1}',
        "a member twice, spelt in two ways": text[:-1] + b',"m\\u0061nifest":1}',
        "a member twice, deeper": text.replace(b'"tool":"t"', b'"tool":"t","tool":"t"'),
        "NaN": text.replace(b"0.05", b"NaN"),
        "Infinity": text.replace(b"0.97,", b"Infinity,"),
        "minus Infinity": text.replace(b"0.95,", b"-Infinity,"),
        "a number beyond binary64": text.replace(b"0.97,", b"1e309,"),
        "a number that rounds beyond binary64": text.replace(b"0.97,", b"1.7976931348623159e308,"),
        "an integer of 2^53": text.replace(b"[-128]", b"[9007199254740992]"),
        "an integer of -2^53": text.replace(b"[-128]", b"[-9007199254740992]"),
        "an integer of 2^64 + 1": text.replace(b'"manifest":1,', b'"manifest":18446744073709551617,'),
        "an integer of 5,000 digits": text.replace(b"[-128]", b"[" + b"9" * 5000 + b"]"),
        "an integer beyond 2^53 where a number may be": text.replace(b"0.97,", b"9007199254740992,"),
        "a zero before": text.replace(b"[-128]", b"[-0128]"),
        "a plus before": text.replace(b"[-128]", b"[+128]"),
        "no digit before the point": text.replace(b"0.97,", b".97,"),
        "no digit after the point": text.replace(b"0.97,", b"1.,"),
        "no digit in the exponent": text.replace(b"0.97,", b"1e+,"),
        "a number in hex": text.replace(b"[-128]", b"[0x80]"),
        "a minus alone": text.replace(b"[-128]", b"[-]"),
        "true in capitals": text.replace(b":true", b":True"),
        "not UTF-8": label(b'"\xff"'),
        "UTF-8 cut short": label(b'"\xe2\x82"'),
        "UTF-8 longer than needed": label(b'"\xc0\xaf"'),
        "UTF-8 of three bytes for two": label(b'"\xe0\x82\xaf"'),
        "a surrogate in UTF-8": label(b'"\xed\xa0\x80"'),
        "UTF-8 above U+10FFFF": label(b'"\xf4\x90\x80\x80"'),
        "the first half of a pair": label(b'"\\ud800"'),
        "the second half of a pair": label(b'"\\udc00"'),
        "the halves the wrong way round": label(b'"\\udc00\\ud800"'),
        "the first half twice": label(b'"\\ud800\\ud800"'),
        "half a pair in a name": text.replace(b'"tool":"t"', b'"tool":"t","\\ud800":1'),
        "an escape nobody knows": label(b'"\\x41"'),
        "an escape of three digits": label(b'"\\u041"'),
        "an escape with a sign": label(b'"\\u+041"'),
        "a line feed in text": label(b'"\n"'),
        "a NUL in text": label(b'"\0"'),
        "text that does not end": text[:-1] + b',"',
        "text that ends in a backslash": text[:-1] + b',"\\',
        "single quotes": label(b"'a'"),
        "a byte order mark": b"\xef\xbb\xbf" + text,
        "UTF-16": text.decode().encode("utf-16"),
        "a NUL after": text + b"\0",
        "a form feed for white space": text + b"\f",
        "a space that is none": text + b"\xc2\xa0",
        "a comment": text.replace(b'"manifest":1', b'"manifest":1/**/'),
        "a comma too many": text[:-1] + b",}",
        "a comma too many in a list": text.replace(b'"one"]', b'"one",]'),
        "a comma too few": text.replace(b'"zero",', b'"zero"'),
        "a colon too few": text.replace(b'"manifest":1', b'"manifest"1'),
        "a name without quotes": text.replace(b'"manifest":1', b"manifest:1"),
        "the wrong bracket": text.replace(b'"one"]', b'"one"}'),
        "17 levels deep": label(b"[" * 17 + b"]" * 17),
        "100,000 levels deep": b"[" * 100_000,
        "100,000 objects deep": b'{"a":' * 100_000,
    }.items()


def _members() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the table with a member missing, of another type, or too many."""
    yield "an unknown member", TABLE | {"nobody knows": 1}
    for path in _paths(TABLE):
        found: Any = TABLE
        for step in path:
            found = found[step]
        # How a tensor is quantized may be missing; what a profile allows may not.
        if path[-1] not in _OPTIONAL or path == ("profile", "quantization"):
            yield f"without {_shown(path)}", _with(path)
        else:
            yield f"{_shown(path)} is null", _with(path, None)
        wrong: object = {str: 1, int: 1.0, float: "0", bool: 1, list: {}, dict: []}[type(found)]
        yield f"{_shown(path)} is {type(wrong).__name__}", _with(path, wrong)
        if isinstance(found, dict):
            yield f"an unknown member in {_shown(path)}", _with((*path, "nobody knows"), 1)


def _values() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the table with a value that no rule allows."""
    tensor: Path = ("model", "inputs", 0)
    values: Sequence[tuple[Path, Sequence[object]]] = (
        (("manifest",), (0, 2, -1, True, "1")),
        (("model", "scheme"), ("", "int3", "AS_IS")),
        ((*tensor, "dtype"), ("complex64", "INT8", "int8\0")),
        ((*tensor, "shape"), ([1] * 9, [-2], [1.0], ["1"], [True], [[1]])),
        ((*tensor, "quantization", "scale"), (["1"], [True], [None])),
        ((*tensor, "quantization", "zero_point"), ([0.0], [True], 0)),
        ((*tensor, "quantization", "quantized_dimension"), (True,)),
        (("model", "stateful"), (0, "false")),
        (("golden", "samples"), (0, -1, True)),
        (("golden", "tolerance"), (-0.01, 1.01, 2, True)),
        (("labels",), ([1], [None], [["a"]], "one")),
        (("provenance", "notes"), ([1],)),
        (("evidence", 0, "holds"), (0, "true")),
        (("evidence", 0, "verdict"), ("guessed", "")),
        (("evidence", 0, "value"), (True, [1])),
        (("evidence",), ([1], [[]], ["a"])),
        (("profile", "schema"), (0, 2)),
        (("profile", "quantization", "supported"), ([], ["mixed"], ["as_is"], ["float32", "float32"], [1])),
    )
    for path, wrong in values:
        for value in wrong:
            yield f"{_shown(path)}: {json.dumps(value)}", _with(path, value)


def _together() -> Iterator[tuple[str, Path, object]]:
    """Yield values of the profile that no rule allows."""
    lines = ("", "a\nb", "\x1b[31m", "\x7f", "\x9b31m", "a\u2028b", "\u202eexe.gnp", "\u2066", "\u061c", "\u200f")
    values: Sequence[tuple[Path, Sequence[object]]] = (
        (("description",), (*lines, "a" * 1001, "\U0001f600" * 1001)),
        (("aliases",), (["A"], [""], ["a" * 32], ["-a"], ["a b"], ["a", "a"], [ONE.profile], [1])),
        (("hardware", "arch"), ("riscv64", "")),
        (("hardware", "cores"), (0, -1, True, 3)),
        (("hardware", "cpu_features"), ([""], ["a b"], ["\xe9"], ["a\x7f"], ["a" * 65], [1])),
        (("hardware", "ram_bytes"), (0, 2**28 - 1)),
        (("software", "os"), ("\t",)),
        (("software", "libc"), ("2.36", "glibc  2.36", "glibc 2", "glibc 2.36.1", "glibc 12345.1", "glibc 2.36\n")),
        (("software", "python"), ("3", "2.7", "3.11.2", "3.1234", "3.11\n", "3.11\0")),
        (("engine", "num_threads"), (0, 5)),
        (("budget", "ram_bytes"), (0, 2**30 + 1)),
        (("budget", "storage_bytes"), (0, -1)),
        (("budget", "latency_ms"), (0, -1, -0.5, 0.0)),
        (("sources", _FIGURES[0], "kind"), ("heard", "")),
        (("sources", _FIGURES[0], "text"), ("", "a\nb")),
        (("sources", "hardware.board"), ({"kind": "assumed", "text": "why"},)),
    )
    for path, wrong in values:
        for value in wrong:
            told = json.dumps(value)
            shown = told if len(told) < 60 else f"{told[:12]}... of {len(told)}"
            yield f"profile/{_shown(path)}: {shown}", ("profile", *path), value


def _header() -> Iterator[Vector]:
    """Yield manifests that say another thing than the header."""
    spec = spec_of(TABLE)
    others: dict[str, tuple[Path, str]] = {
        "product": (("name",), "digit"),
        "profile": (("profile", "name"), "raspberry-pi-5"),
        "engine": (("profile", "engine", "name"), "ai-edge-litert"),
        "engine_version": (("profile", "engine", "version"), "2.14.1"),
    }
    for field, (path, value) in others.items():
        yield _refused(f"another {field} than the header's", spec_of(_with(path, value)))
    yield _refused("another profile_digest than the profile's", replace(spec, profile_digest=ONE.profile_digest))
    exact = hashlib.sha256(text_of(_with(("profile", "budget", "latency_ms"), 40)["profile"])).digest()
    forty = spec_of(_with(("profile", "budget", "latency_ms"), 40))
    yield _refused("the digest has the latency as an integer", replace(forty, profile_digest=exact))
    bare = _with(("profile", "aliases"))
    exact = hashlib.sha256(text_of(bare["profile"])).digest()
    yield _refused("the digest leaves out what the profile does", replace(spec_of(bare), profile_digest=exact))
    litert = replace(ONE, engine="ai-edge-litert")
    small = _with(("profile", "engine", "name"), "ai-edge-litert")
    small["profile"]["hardware"]["arch"] = "armv7l"
    yield _refused("an engine that the architecture does not have", spec_of(small, spec=litert))
    expired = replace(spec_of(TABLE, b"{}"), expires=1_750_000_001)
    yield refused("expiry before the manifest", parts(expired).file(), ("policy", 11), reads_manifest=True)
    none = parts(spec_of(TABLE, b"{}"), recipients=())
    yield refused("the manifest before the grant", none.file(), ("meta", 0), reads_manifest=True)
