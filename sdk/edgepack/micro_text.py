"""The JSON Schema by which editors check a microcontroller's profile."""

from __future__ import annotations

from edgepack.micro_profile import ACCELERATORS, MICRO_ARCHITECTURES, SCHEMA_VERSION
from edgepack.profile_text import schema_table
from edgepack_runtime.capabilities import SCHEMES, SOURCE_KINDS

__all__ = ["micro_schema"]

_MAX_TEXT = 1000
_FIGURES = ("hardware.ram_bytes", "hardware.flash_bytes", "engine.version", "quantization.supported")
_BUDGETS = ("arena_bytes", "flash_bytes")
_NPU_BUDGETS = ("sram_bytes", "latency_ms")


def micro_schema() -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of a microcontroller's profile.

    It says what each field may be. What must be there with an NPU only, `edgepack profiles check` says.
    """
    text = {"type": "string", "minLength": 1, "maxLength": _MAX_TEXT}
    count = {"type": "integer", "minimum": 1, "maximum": 2**53 - 1}
    name = {"type": "string", "pattern": r"^[a-z0-9][a-z0-9._-]{0,30}$"}
    setting = {"type": "string", "pattern": r"^[A-Za-z][A-Za-z0-9_]{0,63}$"}
    version = {"type": "string", "pattern": r"^[0-9A-Za-z][0-9A-Za-z.]{0,63}$"}
    hardware = dict.fromkeys(("board", "soc", "cpu"), text) | {"arch": {"enum": list(MICRO_ARCHITECTURES)}}
    budget = dict.fromkeys((*_BUDGETS, "sram_bytes"), count)
    npu = {
        "accelerator": {"enum": list(ACCELERATORS)},
        "system_config": setting,
        "memory_mode": setting,
        "compiler": {"const": "ethos-u-vela"},
        "compiler_version": version,
    }
    source = schema_table({"kind": {"enum": list(SOURCE_KINDS)}, "text": text})
    with_npu = [f"npu.{member}" for member in npu if member != "compiler"] + [f"budget.{b}" for b in _NPU_BUDGETS]
    figures = (*_FIGURES, *(f"budget.{member}" for member in _BUDGETS), *with_npu)
    whole = schema_table(
        {
            "schema": {"const": SCHEMA_VERSION},
            "target": {"enum": ["mcu", "npu"]},
            "name": name,
            "description": text,
            "aliases": {"type": "array", "items": name},
            "hardware": schema_table(hardware | dict.fromkeys(("ram_bytes", "flash_bytes"), count)),
            "engine": schema_table({"name": {"const": "tflite-micro"}, "version": version}),
            "budget": schema_table(
                {**budget, "latency_ms": {"type": "number", "exclusiveMinimum": 0}}, optional=_NPU_BUDGETS
            ),
            "npu": schema_table(npu),
            "quantization": schema_table(
                {
                    "supported": {
                        "type": "array",
                        "items": {"enum": list(SCHEMES)},
                        "minItems": 1,
                        "uniqueItems": True,
                    }
                }
            ),
            "sources": schema_table(dict.fromkeys(figures, source), optional=tuple(with_npu)),
        },
        optional=("aliases", "npu"),
    )
    title = "edgepack profile of a microcontroller"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **whole}
