"""ONNX models of operator sets that onnxruntime runs no more: raised by ONNX's own tool, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepack.converters._options import first_line
from edgepack.converters._parity import difference
from edgepack.errors import ConversionError
from edgepack_runtime.tensors import Array

__all__ = ["confirm", "raised_for_onnxruntime", "raised_note"]

# The first operator set that onnxruntime runs, and one that every road knows.
_OLDEST_SET, _RAISED_TO = 7, 13
_CONFIRMED, _LIMIT = 4, 1e-5


def _operator_set(model: Any) -> int:
    """Return the version of the standard's operators, 0 where none is used; before IR version 3 it was the first."""
    sets: list[int] = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    return max(sets or [0 if model.opset_import else 1])


def raised_note(model: Any) -> str:
    """Return what the notes say of a model that was raised."""
    return f"raised from ONNX operator set {_operator_set(model)} to {_RAISED_TO}"


def _refusal(model: Any, why: str) -> ConversionError:
    return ConversionError(
        f"the model is of ONNX operator set {_operator_set(model)}, onnxruntime runs {_OLDEST_SET} and later, "
        f"and {why}",
        hint="export it again with a later operator set",
    )


def raised_for_onnxruntime(model: Any) -> Any:
    """Return the model, or a copy of a later operator set if onnxruntime does not run its own.

    Raises:
        ConversionError: onnx cannot raise it.
    """
    import onnx.version_converter

    if _operator_set(model) not in range(1, _OLDEST_SET):
        return model
    try:
        raised = onnx.version_converter.convert_version(model, _RAISED_TO)
    except Exception as error:
        raise _refusal(model, f"onnx cannot raise it: {first_line(error)}") from error
    # It leaves tensors of its own without a type, which onnxruntime refuses.
    del raised.graph.value_info[:]
    return raised


def confirm(model: Any, feeds: Mapping[str, Array], reference: Mapping[str, Array]) -> None:
    """Refuse a raised model that does not compute what ONNX's own evaluator says the original does.

    onnx raises the broadcasting of operator set 6 wrongly where it begins at an axis, for one.

    Args:
        model: the original.
        feeds: samples by input, [n, ...].
        reference: what onnxruntime computed from the raised model, [n, ...] by output.

    Raises:
        ConversionError: they differ, or there is no saying.
    """
    from onnx.reference import ReferenceEvaluator

    names = list(reference)
    few = range(min(_CONFIRMED, len(next(iter(feeds.values())))))
    try:
        evaluator = ReferenceEvaluator(model)
        for i in few:
            found = evaluator.run(names, {name: value[i] for name, value in feeds.items()})
            for name, value in zip(names, found, strict=True):
                wanted = reference[name][i]
                if value.shape != wanted.shape or not difference(value, wanted) <= _LIMIT:
                    raise _refusal(model, f"raising it changes its output {name!r}")
    except ConversionError:
        raise
    except Exception as error:
        raise _refusal(model, f"raised, it cannot be confirmed: {first_line(error)}") from error
