"""Compile an int8 model for an Ethos-U with Arm's vela, and read what vela estimates of it.

Vela does not hold a model against the memory there is, and its cycles are those of a model of the hardware. So the
figures are compared with the profile's by us, and called estimates.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import PassError

__all__ = ["VelaRequest", "VelaResult", "compile_model"]

_NAME = "ethos-u-vela"
_CONFIG = "Arm/vela.ini"


@dataclass(frozen=True, slots=True, kw_only=True)
class VelaRequest:
    """A model and the accelerator it is compiled for, in vela's words."""

    model: bytes
    version: str
    accelerator: str
    system_config: str
    memory_mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VelaResult:
    """The compiled model and vela's summary: memory in bytes, cycles and milliseconds of one inference."""

    model: bytes
    sram_bytes: int
    flash_bytes: int
    dram_bytes: int
    cycles: int
    inference_ms: float


def compile_model(request: VelaRequest) -> VelaResult:
    """Return the compiled model and its summary (runs in the child, in the toolchain's environment).

    Raises:
        PassError: vela is of another version, refuses the model or the configuration, or writes no summary.
    """
    version = importlib.metadata.version(_NAME)
    if version != request.version:
        raise PassError(
            f"this environment has {_NAME} {version}, the profile asks for {request.version}",
            hint="name the version in the profile that edgepack has a lock file for",
        )
    from ethosu.vela import vela

    # The child's own folder, which is gone with it.
    source, folder = Path("model.tflite"), Path("compiled")
    source.write_bytes(request.model)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            vela.main(
                [
                    "--accelerator-config", request.accelerator, "--config", _CONFIG,
                    "--system-config", request.system_config, "--memory-mode", request.memory_mode,
                    "--output-dir", str(folder), str(source),
                ]
            )  # fmt: skip
    except SystemExit as end:
        if end.code not in (0, None):
            raise PassError(f"{_NAME} {version} refuses the model: {_last_line(said.getvalue())}") from None
    # Vela has no class of its own for most of what goes wrong in it.
    except Exception as error:  # noqa: BLE001
        raise PassError(f"{_NAME} {version} failed: {type(error).__name__}: {error}") from None
    sys.stderr.write(said.getvalue())
    compiled = folder / "model_vela.tflite"
    summaries = sorted(folder.glob("model_summary_*.csv"))
    if not compiled.is_file() or len(summaries) != 1:
        raise PassError(f"{_NAME} {version} wrote no model: {_last_line(said.getvalue())}")
    return _result(compiled.read_bytes(), summaries[0].read_text("utf-8"))


def _result(model: bytes, summary: str) -> VelaResult:
    """Return what a summary says; kibibytes and seconds become bytes, rounded up, and milliseconds."""
    rows = list(csv.DictReader(summary.splitlines()))
    try:
        (row,) = rows
        memory = {
            name: -int(-float(row[f"{name}_memory_used"]) * 1024 // 1)
            for name in ("sram", "dram", "on_chip_flash", "off_chip_flash")
        }
        cycles, seconds = float(row["cycles_total"]), float(row["inference_time"])
    except (KeyError, ValueError, TypeError) as error:
        raise PassError(f"{_NAME} wrote a summary that cannot be read: {error}") from None
    return VelaResult(
        model=model,
        sram_bytes=memory["sram"],
        flash_bytes=memory["on_chip_flash"] + memory["off_chip_flash"],
        dram_bytes=memory["dram"],
        cycles=round(cycles),
        inference_ms=seconds * 1000,
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
