"""What the quantizing passes share: options, the source's fitness, ai-edge-quantizer, and the check afterwards.

ai-edge-quantizer skips what a recipe does not allow for without a word, leaves some operators half float, and keeps
the operator versions of the float model. So the result is looked at, repaired, stamped and written anew here.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack import _flatbuffer_edit as edit
from edgepack.engine_ops import parse_engine, support
from edgepack.errors import PassError
from edgepack.flatbuffer import ModelView, Signature, read_model
from edgepack.model import PassRequest
from edgepack.opversions import stamp
from edgepack.passes._expand import expand, unique_names
from edgepack.passes._forms import Rule
from edgepack.passes._ranges import Range, observe
from edgepack.passes._repair import check_types, repair, settle_outputs
from edgepack.passoptions import read_options
from edgepack.schemes import Weight, scheme_of_view, weights
from edgepack.tensor_types import type_problems
from edgepack_runtime.tensors import Array

__all__ = [
    "SIGNATURE",
    "Calibration",
    "Source",
    "check_signature",
    "describe_weights",
    "evenly",
    "load_source",
    "quantize",
    "read_options",
    "tool",
]

SIGNATURE = "serving_default"
# Operator types are named as TFLite names them; where ai-edge-quantizer has another word, it stays in here.
_QUANTIZER_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}
_ALGORITHMS = {"min_max": "min_max_uniform_quantize", "mse": "MSE", "octav": "OCTAV"}
_LONGEST_SCOPE = 10_000
_FLOAT_SCHEMES = ("float32", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Samples by signature input name, and the share of them that may lie outside a tensor's range."""

    samples: tuple[Mapping[str, Array], ...] = ()
    outliers: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A float model made ready: plain float32 constants, unique tensor names, and its one signature."""

    data: bytes
    view: ModelView
    signature: Signature
    notes: tuple[str, ...]


def tool(name: str) -> str:
    """Return ``name version`` of an installed distribution, for the record."""
    from importlib.metadata import version

    return f"{name} {version(name)}"


def check_signature(view: ModelView) -> Signature:
    """Return the model's one signature.

    Raises:
        PassError: there is none, several, or one of another name.
    """
    keys = [s.key for s in view.signatures]
    if len(keys) > 1:
        raise PassError(
            f"a model with several signatures ({', '.join(keys)}) is not quantized here",
            hint="--precision float32 keeps all; or choose one with --signature-key, without keep_signatures",
        )
    if keys != [SIGNATURE]:
        raise PassError(
            f"the model has the signatures {keys}, one named {SIGNATURE!r} is wanted",
            hint="convert it with edgepack, which adds the signature",
        )
    return view.signatures[0]


def load_source(request: PassRequest) -> Source:
    """Return the request's model, ready to be quantized.

    Raises:
        PassError: it is quantized already, keeps state between runs, or has nothing to quantize.
        SourceModelError: the bytes are no TFLite model.
    """
    view = read_model(request.model)
    check_signature(view)
    scheme = scheme_of_view(view)
    if scheme not in _FLOAT_SCHEMES:
        raise PassError(
            f"the source model is quantized already ({scheme}); there are no float weights left to quantize",
            hint="start from the float model, or build without a quantization step (float32 keeps it as it is)",
        )
    if variables := sorted({o.name for _, o in view.operators() if o.name in ("VAR_HANDLE", "CALL_ONCE")}):
        raise PassError(f"the model keeps state between runs ({', '.join(variables)}); it cannot be quantized here")
    data, count = expand(request.model)
    data = unique_names(data)
    view = read_model(data)
    if not any(w.tensor.dtype == "float32" for w in weights(view)):
        raise PassError(
            "the model has no float weights: nothing to quantize",
            hint="only operators such as CONV_2D and FULLY_CONNECTED with constant weights can be quantized",
        )
    notes = (f"{count} float16 or sparse constants were expanded to float32 first",) if count else ()
    return Source(data=data, view=view, signature=check_signature(view), notes=notes)


def quantize(
    source: Source, rules: Sequence[Rule], calibration: Calibration, engine: str
) -> tuple[bytes, tuple[str, ...]]:
    """Return the model quantized by `rules` (the last that fits an operator wins), stamped and checked, and notes.

    Operators whose quantized form the engine lacks, though it has the float form, are kept float.

    Raises:
        PassError: the quantizer failed, changed the signature, or made something the engine lacks.
    """
    ranges = _observe(source, calibration) if calibration.samples else {}
    cut = sum(found.cut for found in ranges.values())
    notes = (f"ranges of {cut} tensors leave out samples that alone would stretch them",) if cut else ()
    result = _quantize_once(source, rules, ranges)
    lacking = _lacking(result, engine)
    if not lacking:
        return result, notes
    kept = [Rule(operator=operator, weights=None) for operator in sorted(lacking)]
    result = _quantize_once(source, (*rules, *kept), ranges)
    if still := _lacking(result, engine).keys() - _lacking(source.data, engine).keys():
        raise PassError(
            f"{engine} cannot run {', '.join(sorted(still))} as quantized here",
            hint="name the operators in keep_float, or choose another quantization",
        )
    named = ", ".join(lacking[name] for name in sorted(lacking))
    return result, (*notes, f"kept float, as {engine} has no {named}")


def _lacking(model: bytes, engine: str) -> dict[str, str]:
    """Return what of the model the engine cannot run: operator type -> how the model has it."""
    name, version = parse_engine(engine)
    view = read_model(model)
    used = {o.opcode for _, o in view.operators()}
    codes = [code for i, code in enumerate(view.opcodes) if i in used and code.name != "CUSTOM"]
    lacking = {c.name: str(c) for c in codes if support(name, version, c.name, c.version).holds is False}
    return lacking | {problem.operator: problem.found for problem in type_problems(view, name, version)}


def _quantize_once(source: Source, rules: Sequence[Rule], ranges: Mapping[str, Range]) -> bytes:
    from ai_edge_quantizer import quantizer

    try:
        with warnings.catch_warnings():
            # The engine warns that keeping all tensors, as calibration must, takes memory.
            warnings.simplefilter("ignore", UserWarning)
            worker = quantizer.Quantizer(source.data)
            for position, rule in enumerate(rules):
                _add(worker, rule, position)
            statistics = _statistics(source, ranges) if worker.need_calibration else None
            done = worker.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
        model = edit.unpack(bytes(done.quantized_model))
        repair(model)
        settle_outputs(model, source.signature, source.view.subgraphs[source.signature.subgraph].outputs)
        result = stamp(edit.pack(model))
    except PassError:
        raise
    except Exception as e:
        # Whatever it raises means that it could not do it; the first line says at what it stopped.
        first_line = (str(e).strip().splitlines() or [""])[0][:300]
        raise PassError(
            f"ai-edge-quantizer cannot quantize this model ({type(e).__name__}: {first_line})",
            hint="choose another quantization, or name the operator it stumbles over in keep_float",
        ) from e
    view = read_model(result)
    _same_interface(source, view)
    check_types(view)
    return result


def _add(engine: Any, rule: Rule, position: int) -> None:
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    name = _QUANTIZER_NAMES.get(rule.operator, rule.operator)
    try:
        operation = qtyping.TFLOperationName(name)
    except ValueError:
        raise PassError(f"{rule.operator!r} is no operator ai-edge-quantizer quantizes, so it stays float anyway",
                        hint="take it out of keep_float") from None  # fmt: skip
    where = _pattern(rule, position)
    if rule.weights is None:
        engine.update_quantization_recipe(where, operation, algorithm_key=AlgorithmName.NO_QUANTIZE)
        return
    activations = None
    if rule.activations is not None:
        # Sixteen bits have room for both sides of zero; the kernels know no other form.
        activations = qtyping.TensorQuantizationConfig(num_bits=rule.activations, symmetric=rule.activations > 8)
    precision = qtyping.ComputePrecision.FLOAT if rule.unpacked else qtyping.ComputePrecision.INTEGER
    config = qtyping.OpQuantizationConfig(
        activation_tensor_config=activations,
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=rule.bits, symmetric=True, granularity=qtyping.QuantGranularity(rule.weights)
        ),
        compute_precision=precision,
        explicit_dequantize=rule.unpacked,
        min_weight_elements=rule.min_elements,
    )
    engine.update_quantization_recipe(where, operation, config, _ALGORITHMS[rule.algorithm])


def _pattern(rule: Rule, position: int) -> str:
    """Return the regular expression for the rule's operators.

    Each is unlike the others by a comment: the quantizer keeps rules of one expression together, where the last
    would no longer win over those in between.
    """
    if rule.layers is None:
        return f"(?#{position}).*"
    # As the quantizer names an operator: all its outputs, and at most so much of that.
    scopes = ("".join(f"{name};" for name in names if name)[:_LONGEST_SCOPE] for names in rule.layers)
    return rf"(?#{position})\A(?:{'|'.join(map(re.escape, scopes))})\Z"


def _observe(source: Source, calibration: Calibration) -> dict[str, Range]:
    graph = source.view.subgraphs[source.signature.subgraph]
    return observe(source.data, graph, source.signature, calibration.samples, calibration.outliers)


def _statistics(source: Source, ranges: Mapping[str, Range]) -> dict[str, dict[str, Array]]:
    """Return the ranges in the form the quantizer takes."""
    ranks = {t.name: len(t.shape) for t in source.view.subgraphs[source.signature.subgraph].tensors}
    return {
        name: {
            "min": np.full((1,) * ranks[name], found.low, np.float32),
            "max": np.full((1,) * ranks[name], found.high, np.float32),
        }
        for name, found in ranges.items()
    }


def _same_interface(source: Source, result: ModelView) -> None:
    after = check_signature(result)
    for what, old, new in (
        ("inputs", source.signature.inputs, after.inputs),
        ("outputs", source.signature.outputs, after.outputs),
    ):
        before, now = [name for name, _ in old], [name for name, _ in new]
        if before != now:
            raise PassError(f"the quantizer changed the model's {what} from {before} to {now}")


def describe_weights(model: bytes, wanted: str) -> tuple[int, tuple[str, ...]]:
    """Return how many weight tensors are stored as `wanted`, and notes that name the layers that are not."""
    found: list[Weight] = list({(w.layer, w.stored.name): w for w in weights(read_model(model))}.values())
    good = [w for w in found if w.stored.dtype == wanted]
    left = [w for w in found if w.stored.dtype != wanted]
    notes = [f"{len(good)} of {len(found)} weight tensors are {wanted}"]
    for operator, count in sorted(Counter(w.operator for w in left).items()):
        layers = [w.layer for w in left if w.operator == operator]
        named = ", ".join(layers[:3]) + (", …" if count > 3 else "")
        notes.append(f"kept {left[0].stored.dtype}: weights of {count} {operator} ({named})")
    return len(good), tuple(notes)


def evenly(count: int, limit: int) -> list[int]:
    """Return at most `limit` of the positions 0 … count-1, spread evenly, always the same ones."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, limit)).round()}) if count else []
