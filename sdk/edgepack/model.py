"""The data a build hands from step to step: the source, what the converter made of it, what passes made of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepack_runtime.tensors import Array, TensorSpec

__all__ = [
    "Conversion",
    "ConversionRequest",
    "Divergence",
    "Export",
    "PassRequest",
    "PassResult",
    "Refusal",
    "SourceModel",
    "StepRecord",
    "TFLiteModel",
    "TrainRequest",
    "TrainResult",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceModel:
    """A model as its author left it: `format` was detected from content, `digest` is SHA-256 (hex).

    `parts` are further files it names, beside `path`; the digest is of them too.
    """

    path: Path
    format: str
    digest: str
    parts: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step of the build as the signed provenance tells it; digests are SHA-256 (hex)."""

    use: str
    tool: str
    options: str
    input_digest: str
    output_digest: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TFLiteModel:
    """TFLite bytes and the steps that led to them; inputs and outputs carry the source's names and order."""

    data: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    history: tuple[StepRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionRequest:
    """What a converter plug-in gets, in its child process.

    `options` is canonical JSON of the plug-in's `Options`. `feeds` holds real samples as the data file has them,
    [n, ...] by array name; `edgepack.dataset.bind_feeds` checks them against the model's inputs. The last `edges` of
    them are made up (`edgepack.edgecases`): the source's outputs on them are wanted as on the others, but the build
    alone judges by them. `scratch` is a private folder, `parts` are further files of the source. `trusted` says that
    the user lets the source's own code run; `module` and `entry` are the user's own Python file and the name of what
    builds the network in it.
    """

    source: Path
    options: str
    feeds: Mapping[str, Array]
    scratch: Path
    parts: tuple[Path, ...] = ()
    edges: int = 0
    trusted: bool = False
    module: Path | None = None
    entry: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What a converter plug-in gives back.

    `tflite` is the float model whose one SignatureDef (``serving_default``) has the source's tensor names; `inputs`
    and `outputs` are the source's specs in the source's order, batch fixed to 1; `reference` are the source
    framework's own outputs on `ConversionRequest.feeds`, shape [n, ...] by output name.
    """

    tflite: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    reference: Mapping[str, Array]
    tool: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Where a conversion that was refused begins to differ from its source, in words."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What an exporter plug-in gives back: the source as a model of another format, for that format's converters.

    `model` is the file, whose inputs and outputs have the names, order, dtypes and shapes of `inputs` and `outputs`,
    batch fixed to 1; `reference` as in `Conversion`: what the source framework itself computes.
    """

    model: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    reference: Mapping[str, Array]
    tool: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRequest:
    """What a pass plug-in gets, in its child process; `calibration` as `ConversionRequest.feeds`."""

    model: bytes
    engine: str
    options: str
    calibration: Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassResult:
    """What a pass plug-in gives back."""

    model: bytes
    tool: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What a training step gets, in its child process.

    `options` is canonical JSON of the step's `Options`; `feeds` and `labels` are the training set, [n, ...] by array
    name. `teacher` is the model it learns from, where the step has one. `scratch` and `trusted` as for
    `ConversionRequest`.
    """

    source: Path
    options: str
    feeds: Mapping[str, Array]
    labels: Array | None
    scratch: Path
    teacher: Path | None = None
    trusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a training step gives back: a .keras file, and what is to be said of it."""

    model: bytes
    tool: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One row of the table that says why a candidate is not shipped.

    `unclear` is true where it may be good enough, and there were too few samples to tell: another precision is no way
    out then.
    """

    profile: str
    scheme: str
    check: str
    found: str
    wanted: str
    remedy: str
    unclear: bool = False
