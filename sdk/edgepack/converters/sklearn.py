"""scikit-learn models and pipelines, by skl2onnx: exported to ONNX, which the roads from ONNX take on.

A joblib or pickle file is a program, so it is loaded only with ``--trust-source``; a skops file is not. The reference
is what scikit-learn itself computes, and which of its methods an output of the export is, is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.converters._onnx_ml import without_ml_operators
from edgepack.converters._options import read_options
from edgepack.converters._sklearn_files import first_line, load
from edgepack.converters._sklearn_outputs import INPUT, Output, recognised, values_of, with_outputs
from edgepack.converters._sklearn_prepare import prepared_for_export
from edgepack.dataset import bind_feeds
from edgepack.errors import ConversionError
from edgepack.model import ConversionRequest, Export
from edgepack_runtime.tensors import TensorSpec

__all__ = ["FORMATS", "ROAD", "THEN", "TOOLCHAIN", "Options", "export"]

FORMATS = ("sklearn",)
ROAD = "skl2onnx"
TOOLCHAIN = "sklearn"
THEN = "onnx"

_OPSETS = {"": 18, "ai.onnx.ml": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to export.

    `estimator` names the entry to take, where the file is a table of several things; `max_difference` is as a share
    of an output's range.
    """

    estimator: str = ""
    max_difference: float = 1e-4


def export(request: ConversionRequest) -> Export:
    """Return the model as ONNX with operators of ONNX itself, and scikit-learn's own outputs on the samples.

    Raises:
        ConversionError: the file may not be loaded or cannot be, or it holds what skl2onnx has no converter for.
        DatasetError: the samples do not fit its input.
        RecipeError: an option is unknown.
    """
    options = read_options(Options, request.options)
    loaded = load(request.source, trusted=request.trusted, entry=options.estimator)
    estimator = loaded.estimator
    ready, changes = prepared_for_export(estimator)
    width = _width(ready)
    inputs = (TensorSpec(name=INPUT, dtype="float32", shape=(1, width)),)
    feeds = bind_feeds(request.feeds, inputs, "calibration data")
    x = feeds[INPUT].reshape(-1, width)
    model = _exported(ready, width)
    outputs, notes = recognised(estimator, model, x, len(x) - request.edges)
    model = with_outputs(model, outputs)
    specs = _specs(model, outputs)
    return Export(
        model=model.SerializeToString(),
        inputs=inputs,
        outputs=specs,
        reference={o.name: o.values for o in outputs},
        tool=f"skl2onnx {_version('skl2onnx')}, scikit-learn {_version('scikit-learn')}",
        notes=(*loaded.notes, *changes, *notes),
    )


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


def _width(estimator: Any) -> int:
    width = getattr(estimator, "n_features_in_", None)
    if width is None:
        raise ConversionError(
            f"{type(estimator).__name__} does not say how many features it takes: it is not fitted",
            hint="save it after fit()",
        )
    return int(width)


def _exported(estimator: Any, width: int) -> Any:
    """Return the ONNX model skl2onnx gives, its operators of ``ai.onnx.ml`` rewritten."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    def convert(options: dict[Any, Any]) -> Any:
        return convert_sklearn(
            estimator,
            initial_types=[(INPUT, FloatTensorType([1, width]))],
            options=options | _distance_options(),
            target_opset=_OPSETS,
        )

    last = estimator
    while getattr(last, "steps", None):
        last = last.steps[-1][1]
    # Classes beside probabilities, not a list of tables; an option that a kind of model does not have is a NameError.
    tried: list[dict[Any, Any]] = [{id(estimator): {"zipmap": False}}, {id(last): {"nocl": False}}, {}]
    try:
        while True:
            try:
                model = convert(tried.pop(0))
                break
            except NameError:
                if not tried:
                    raise
    except (MissingConverter, MissingShapeCalculator) as error:
        kind = str(error).partition("'<class '")[2].partition("'")[0] or str(error).splitlines()[0]
        raise ConversionError(
            f"skl2onnx has no converter for {kind}",
            hint="replace this step by another one, or do it outside the model",
        ) from error
    except Exception as error:
        raise ConversionError(f"skl2onnx: {type(error).__name__}: {first_line(error)}") from error
    for item in model.opset_import:
        if item.domain == "":
            # It states the oldest version its operators need; they are written as in the newest.
            item.version = _OPSETS[""]
    return without_ml_operators(model)


def _distance_options() -> dict[Any, Any]:
    """Have distances written as one operator: by default they are a loop over rows."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.impute import KNNImputer
    from sklearn.neighbors import (
        KNeighborsClassifier,
        KNeighborsRegressor,
        LocalOutlierFactor,
        RadiusNeighborsClassifier,
        RadiusNeighborsRegressor,
    )

    kinds = (GaussianProcessRegressor, KNNImputer, KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor,
             RadiusNeighborsClassifier, RadiusNeighborsRegressor)  # fmt: skip
    return {kind: {"optim": "cdist"} for kind in kinds}


def _specs(model: Any, outputs: tuple[Output, ...]) -> tuple[TensorSpec, ...]:
    width = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    values = values_of(model, np.zeros((1, width), np.float32))
    return tuple(
        TensorSpec(name=o.name, dtype=str(values[o.name].dtype), shape=values[o.name].shape[1:]) for o in outputs
    )
