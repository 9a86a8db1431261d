"""How a diagnosis looks: a table of the layers to blame for people, every layer for programs."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from edgepack.cli.show import console_for, escape, print_table

if TYPE_CHECKING:
    from edgepack.diagnosis import Diagnosis, Finding
    from edgepack.layer_error import LayerError

__all__ = ["show_diagnosis"]

_MOST_NAME = 40


def show_diagnosis(found: Diagnosis, *, as_json: bool) -> None:
    """Print what is wrong, the layers to blame in the order they compute in, why, and what to do."""
    if as_json:
        print(json.dumps(_json(found), indent=2))
        return
    console = console_for(stderr=False)
    for line in _verdict(found):
        console.print(escape(line), soft_wrap=True)
    if not found.good and found.findings:
        console.print()
        columns = ["layer", "operator", "type", "as it ran", "by itself", "outputs by it", "why"]
        print_table(console, columns, [_row(one, alone=found.alone) for one in found.findings])
        console.print(
            "\ndB of signal to error: of the layer as the model ran, of the layer fed by the float model, and of the "
            "worst output if this layer alone were quantized; 20 is 1 %, 0 is as much error as signal\n",
            soft_wrap=True,
        )
        advice = dict.fromkeys(
            (one.reason.name, one.reason.advice) for one in found.findings if one.reason is not None
        )
        rows = [[f"{name}:", text] for name, text in advice]
        print_table(console, ["", "what to do"], [*rows, ["in general:", found.way_out]])
        if found.rule:
            console.print(escape(_rule(found), keep="\n"), soft_wrap=True)
    for line in _doubts(found):
        console_for(stderr=True).print(f"edgepack: {escape(line)}", soft_wrap=True)


def _verdict(found: Diagnosis) -> list[str]:
    errors = found.errors
    lines = [
        f"{parity.output}: correlation with the float model {parity.correlation:.4f}"
        f"{f', wanted is at least {found.limit:g}' if parity.output in found.wrong else ''}"
        for parity in errors.outputs
    ]
    where = f"{errors.samples} samples, {len(errors.layers)} layers, {errors.engine}"
    if found.good:
        worst = min(found.findings, key=lambda one: _of(one.layer), default=None)
        most = "" if worst is None else f"; most harm does {worst.layer.kind} {_short(worst.layer.name)}"
        return [*lines, f"nothing is wrong ({where}){most}"]
    if errors.refused:
        return [f"the engine does not run the quantized model: {errors.refused} ({where})"]
    return [*lines, f"the quantized model is wrong ({where})"]


def _rule(found: Diagnosis) -> str:
    layers = ", ".join(f'"{name}"' for name in found.rule)
    return (
        f"\nor --precision mixed with {len(found.rule)} operators of the float model left float, and look again; "
        "in edgepack.toml:\n\n"
        f'[passes.mixed]\nbase = "{found.base}"\n\n'
        f'[[passes.mixed.rules]]\nlayers = [{layers}]\nprecision = "float32"\n'
    )


def _of(layer: LayerError) -> float:
    return layer.effect if layer.effect is not None else layer.own_sqnr or 0.0


def _short(name: str) -> str:
    return name if len(name) <= _MOST_NAME else f"…{name[-_MOST_NAME + 1 :]}"


def _row(one: Finding, *, alone: bool) -> list[str]:
    layer, reason = one.layer, one.reason
    unknown = "not known: its precision is too small for it" if alone else ""
    why = unknown if reason is None else f"{reason.name}: {reason.seen}"
    figures = [_decibels(value) for value in (layer.sqnr, layer.own_sqnr, layer.effect)]
    return [_short(layer.name), layer.kind, layer.dtype, *figures, why]


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _doubts(found: Diagnosis) -> list[str]:
    errors, lines = found.errors, []
    if errors.unmatched:
        lines.append(f"{errors.unmatched} operators have no twin in the float model and were not judged")
    if errors.alone_failure:
        lines.append(f"the engine does not run the layers by themselves, so less is known: {errors.alone_failure}")
    if errors.disturbed > 0.01:
        lines.append(f"looking at the layers changes the outputs by {errors.disturbed:.1%} of their range")
    return lines


def _json(found: Diagnosis) -> dict[str, object]:
    errors = found.errors
    return {
        "good": found.good,
        "engine": errors.engine,
        "samples": errors.samples,
        "refused": errors.refused,
        "unmatched": errors.unmatched,
        "alone_failure": errors.alone_failure,
        "outputs": [dataclasses.asdict(parity) for parity in errors.outputs],
        "limit": found.limit,
        "wrong": list(found.wrong),
        "blamed": [
            {
                "operator": one.layer.operator,
                "name": one.layer.name,
                "reason": None if one.reason is None else dataclasses.asdict(one.reason),
            }
            for one in found.findings
        ],
        "alone": found.alone,
        "what_to_do": found.way_out,
        "mixed": {"base": found.base, "layers": list(found.rule), "precision": "float32"} if found.rule else None,
        "layers": [_layer_json(layer) for layer in errors.layers],
    }


def _layer_json(layer: LayerError) -> dict[str, object]:
    names = (
        "operator", "kind", "name", "dtype", "sqnr", "own_sqnr", "effect", "max_error", "own_max_error", "saturated",
        "dead", "from_inputs", "from_weights", "from_rounding", "from_engine",
    )  # fmt: skip
    return {name: getattr(layer, name) for name in names} | {"float_operator": layer.pair.twin}
