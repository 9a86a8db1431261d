"""What goes into a model and what comes out: names, dtypes, shapes, quantization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgepack_runtime._data import dataclass
from edgepack_runtime._fields import Fields
from edgepack_runtime.capabilities import DTYPES
from edgepack_runtime.errors import InputError, SchemaError

__all__ = ["DTYPES", "Array", "QuantizationParameters", "SignatureSpec", "TensorSpec", "check_feeds", "named_spec"]

# As numpy.typing has it, which takes a device a while to import.
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationParameters:
    """Affine quantization: real = scale * (stored - zero_point), per tensor or along one dimension."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    quantized_dimension: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Name, dtype and shape of one input or output; -1 in `shape` is a dimension the caller chooses."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    quantization: QuantizationParameters | None = None

    def __str__(self) -> str:
        dims = ", ".join("?" if d < 0 else str(d) for d in self.shape)
        return f"{self.name}: {self.dtype}[{dims}]"

    def to_json(self) -> dict[str, object]:
        """Return the spec as the table `from_fields` reads."""
        table: dict[str, object] = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        if self.quantization is not None:
            q = self.quantization
            table["quantization"] = {
                "scale": list(q.scale),
                "zero_point": list(q.zero_point),
                "quantized_dimension": q.quantized_dimension,
            }
        return table

    @classmethod
    def from_fields(cls, fields: Fields) -> TensorSpec:
        """Return the spec read strictly from a table.

        Raises:
            SchemaError: a field is missing, unknown or wrong.
        """
        shape = fields.take("shape", list)
        if len(shape) > 8 or not all(isinstance(d, int) and not isinstance(d, bool) and d >= -1 for d in shape):
            fields.refuse("shape", f"expected up to 8 integers >= -1, got {shape!r}")
        quantization = None
        if "quantization" in fields.names():
            q = fields.take_table("quantization")
            scale, zero_point = q.take("scale", list), q.take("zero_point", list)
            if not all(isinstance(s, (int, float)) and not isinstance(s, bool) for s in scale):
                q.refuse("scale", "expected numbers")
            if not all(isinstance(z, int) and not isinstance(z, bool) for z in zero_point):
                q.refuse("zero_point", "expected integers")
            quantization = QuantizationParameters(
                scale=tuple(float(s) for s in scale),
                zero_point=tuple(zero_point),
                quantized_dimension=q.take("quantized_dimension", int, 0),
            )
            q.finish()
        spec = cls(
            name=fields.take("name", str),
            dtype=fields.take_choice("dtype", DTYPES),
            shape=tuple(shape),
            quantization=quantization,
        )
        fields.finish()
        return spec


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureSpec:
    """What one of a model's SignatureDefs takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def named_spec(name: str, specs: Sequence[TensorSpec], where: str) -> TensorSpec:
    """Return the tensor that a member of a declaration names.

    Raises:
        SchemaError: there is none.
    """
    for spec in specs:
        if spec.name == name:
            return spec
    raise SchemaError(f"processing.{where}: {name!r} is none of the model's {', '.join(map(str, specs))}")


def _shape_fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (-1, s) for s, w in zip(shape, wanted, strict=True))


def check_feeds(feeds: Mapping[str, Array], specs: tuple[TensorSpec, ...]) -> None:
    """Refuse arrays that do not fit `specs` exactly; nothing is cast, reshaped or dropped.

    Raises:
        InputError: a name is missing or unknown, or a shape or dtype is another one.
    """
    wanted = {spec.name: spec for spec in specs}
    if feeds.keys() != wanted.keys():
        raise InputError(
            f"inputs named {sorted(feeds)} were given, the model takes {sorted(wanted)}",
            hint="inputs: " + "; ".join(str(spec) for spec in specs),
        )
    for name, spec in wanted.items():
        value = feeds[name]
        if not isinstance(value, np.ndarray):
            raise InputError(f"input {name!r}: expected a numpy array, got {type(value).__name__}")
        if value.dtype != np.dtype(spec.dtype):
            raise InputError(
                f"input {name!r}: expected dtype {spec.dtype}, got {value.dtype}",
                hint=f"convert it yourself, e.g. array.astype({spec.dtype!r})",
            )
        if not _shape_fits(value.shape, spec.shape):
            raise InputError(f"input {name!r}: expected shape {list(spec.shape)}, got {list(value.shape)}")
