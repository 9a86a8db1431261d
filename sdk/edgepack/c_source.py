"""A model as C, for any compiler of microcontrollers: a header and a source, the same bytes for the same model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgepack_runtime.golden import GoldenSample
from edgepack_runtime.tensors import Array, TensorSpec

__all__ = ["CModel", "c_files", "c_identifier"]

_BYTES_IN_A_LINE = 12
# What vector instructions, and an NPU, want of a model's address.
_ALIGNMENT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CModel:
    """What is written: the model, its tensors as the board sees them, and golden samples to check a board with.

    `compiled` says that the model was compiled for an NPU after it was run.
    """

    name: str
    model: bytes
    compiled: bool
    arena_bytes: int
    arena_used_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: tuple[GoldenSample, ...]


def c_identifier(text: str) -> str:
    """Return a name of C made of a product's name: lower case, digits and underscores, no digit first."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "model"
    return f"m_{name}" if name[0].isdigit() else name


def c_files(model: CModel) -> Mapping[str, bytes]:
    """Return the files ``NAME.h`` and ``NAME.c`` by their names; ASCII, without a date in them."""
    name = c_identifier(model.name)
    return {f"{name}.h": _header(model, name).encode("ascii"), f"{name}.c": _source(model, name).encode("ascii")}


def _header(model: CModel, name: str) -> str:
    upper, before = name.upper(), ", before it was compiled" if model.compiled else ""
    lines = [
        "/* Written by edgepack from a model; evidence.dsse.json beside it has the signed digest of this file. */",
        f"#ifndef {upper}_H",
        f"#define {upper}_H",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        f'#define {upper}_MODEL_SHA256 "{hashlib.sha256(model.model).hexdigest()}"',
        f"#define {upper}_MODEL_BYTES {len(model.model)}u",
        f"/* The arena of the device profile: the model was run in exactly that much, on a host{before}. */",
        f"#define {upper}_ARENA_BYTES {model.arena_bytes}u",
        "/* The smallest arena it ran in there, without the working memory of optimized kernels. */",
        f"#define {upper}_ARENA_USED_BYTES {model.arena_used_bytes}u",
        f"extern const unsigned char {name}_model[{upper}_MODEL_BYTES];",
        "",
    ]
    for kind, specs in (("INPUT", model.inputs), ("OUTPUT", model.outputs)):
        lines.append(f"#define {upper}_{kind}S {len(specs)}u")
        for index, spec in enumerate(specs):
            lines += _tensor(f"{upper}_{kind}_{index}", spec)
        lines.append("")
    lines += [
        "/* Golden samples, each tensor as the bytes it has in memory, sample behind sample. */",
        f"#define {upper}_GOLDEN_SAMPLES {len(model.golden)}u",
    ]
    for kind, index, _, data in _golden(model):
        lines.append(f"extern const unsigned char {name}_golden_{kind}_{index}[{max(1, len(data))}u];")
    return "\n".join([*lines, "", "#ifdef __cplusplus", "}", "#endif", "", "#endif", ""])


def _tensor(name: str, spec: TensorSpec) -> list[str]:
    dims = ", ".join(map(str, spec.shape))
    # A name from a stranger's model must not end the comment, or the line.
    label = re.sub(r"[^A-Za-z0-9_.:-]", "_", spec.name)[:64]
    lines = [f"/* {label}: {spec.dtype}[{dims}] */"]
    if spec.quantization is not None and len(spec.quantization.scale) == 1:
        scale = spec.quantization.scale[0]
        lines += [
            f"#define {name}_SCALE {scale!r}",
            f"#define {name}_ZERO_POINT ({spec.quantization.zero_point[0]})",
        ]
    return lines


def _source(model: CModel, name: str) -> str:
    lines = [
        "/* Written by edgepack from a model; do not edit. */",
        f'#include "{name}.h"',
        "",
        "#if defined(__cplusplus)",
        f"#define EDGEPACK_ALIGNED alignas({_ALIGNMENT})",
        "#else",
        f"#define EDGEPACK_ALIGNED _Alignas({_ALIGNMENT})",
        "#endif",
        "",
        *_array(f"{name}_model", model.model),
    ]
    for kind, index, _, data in _golden(model):
        lines += ["", *_array(f"{name}_golden_{kind}_{index}", data)]
    return "\n".join([*lines, ""])


def _golden(model: CModel) -> Sequence[tuple[str, int, str, bytes]]:
    found = []
    for kind, specs in (("input", model.inputs), ("output", model.outputs)):
        for index, spec in enumerate(specs):
            samples = [_of(sample, kind)[spec.name] for sample in model.golden]
            data = b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in samples)
            found.append((kind, index, spec.name, data))
    return found


def _of(sample: GoldenSample, kind: str) -> Mapping[str, Array]:
    return sample.inputs if kind == "input" else sample.outputs


def _array(name: str, data: bytes) -> list[str]:
    # C knows no array without an element.
    shown = data or b"\0"
    rows = [shown[at : at + _BYTES_IN_A_LINE] for at in range(0, len(shown), _BYTES_IN_A_LINE)]
    return [
        f"EDGEPACK_ALIGNED const unsigned char {name}[{len(shown)}u] = {{",
        *("  " + ", ".join(f"0x{byte:02x}" for byte in row) + "," for row in rows),
        "};",
    ]
