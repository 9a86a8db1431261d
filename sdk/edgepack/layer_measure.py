"""Run a float model and its quantized form layer by layer under one engine, and add up how they differ.

This runs in a child, in the engine's own environment; `edgepack.layer_error` prepares the models and reads the sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from edgepack.layer_effect import MOST_SAMPLES, Effects, worth_a_look
from edgepack.layer_sums import LayerSums, Numbers, Seen, Sums, fixed_to, own_value, real, rounded
from edgepack_runtime.engines import Engine, load
from edgepack_runtime.errors import EngineError, InputError
from edgepack_runtime.plaintext import PlaintextModel, Room
from edgepack_runtime.tensors import Array

__all__ = ["Feed", "Layer", "MeasureRequest", "Measured", "measure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One input of a layer, or of the model: its name, which float tensor it is fed from, and how it is stored.

    `run_time` is for a float input that the kernel itself rounds to eight bits: ``rows`` each row, ``whole`` all.
    """

    name: str
    reference: int
    numbers: Numbers
    run_time: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer: the tensor it gives in the quantized and in the float model, and what it is fed.

    `alone` says that it can be fed on its own, `twin` that the float operator can be fed the same; QUANTIZE has no
    twin, what goes into it is what should come out.
    """

    output: int
    reference: int
    numbers: Numbers
    feeds: tuple[Feed, ...]
    alone: bool
    twin: bool
    passes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRequest:
    """What to run; `feeds` are arrays [n, ...] by the float model's input names in `exposed` form.

    `models` has ``float``, ``replaceable`` (the same, with inputs in every layer's place), ``float alone`` and
    ``weights alone`` (the float operators, with the quantized weights), and, unless the engine cannot run them,
    ``quantized``, ``plain`` (without more outputs) and ``alone``.
    """

    models: Mapping[str, bytes]
    engine: str
    version: str
    num_threads: int
    feeds: Mapping[str, Array]
    inputs: tuple[Feed, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came out.

    `disturbed` is the largest difference that looking at all tensors makes to the outputs, as a share of their range;
    `alone_failure` says why layers could not be run alone. `reference` and `outputs` are the float and the quantized
    model's outputs as real numbers, [n, ...] by float tensor. `effects` go with the layers: what each one's own error
    does to each output of a model that is float otherwise, as a share of that output's variance; -1 where it was not
    measured.
    """

    engine_version: str
    layers: tuple[LayerSums, ...]
    disturbed: float
    alone_failure: str
    reference: Mapping[str, Array]
    outputs: Mapping[str, Array]
    effects: Array


def _as_kernels_round(values: Array, how: str) -> Array:
    """Return what a kernel with float input and int8 weights makes of its input."""
    axis = -1 if how == "rows" else None
    largest = np.abs(values).max(axis=axis, keepdims=True)
    step = np.where(largest > 0, largest / 127, 1)
    given: Array = (np.rint(values / step) * step).astype(np.float32)
    return given


@contextmanager
def _engines(request: MeasureRequest, names: Sequence[str]) -> Iterator[dict[str, Engine]]:
    """Give the named models, loaded; they lie in memory only.

    Raises:
        EngineError: the engine cannot load one, or is of another version.
    """
    with ExitStack() as stack:
        made = {}
        for name in names:
            data = request.models[name]

            def fill(into: Room, data: bytes = data) -> None:
                into.write(0, data)

            plain = stack.enter_context(PlaintextModel(len(data), fill))
            if plain.path is None:
                raise EngineError("running a model from memory needs memfd, which only Linux has")
            engine = load(request.engine, plain.path, num_threads=request.num_threads)
            stack.callback(engine.close)
            if request.version not in ("", engine.version):
                raise EngineError(f"this is {request.engine} {engine.version}, {request.version} was asked for")
            made[name] = engine
        yield made


def measure(request: MeasureRequest) -> Measured:
    """Return the sums of every layer (runs in the child, in the engine's environment).

    Raises:
        EngineError: the engine cannot load or run a model.
        InputError: the samples do not fit the float model.
    """
    run = _Run(request)
    first = ("float", *(("quantized", "plain") if run.runs else ()))
    second = ("float alone", "weights alone", *(("alone",) if run.runs else ()))
    with _engines(request, first) as engines, ExitStack() as stack:
        try:
            run.alone = stack.enter_context(_engines(request, second))
        except EngineError as error:
            run.alone, run.failure = {}, error.message
        for i in range(len(next(iter(request.feeds.values())))):
            run.add(engines, run.sample(i))
        version = engines["float"].version
        sums = tuple(one.result() for one in run.sums)
        effects = np.full((len(sums), len(request.outputs)), -1.0)
        if run.alone:
            with suppress(EngineError, InputError), _engines(request, ("replaceable",)) as replaceable:
                effects = run.effects(engines["float"], replaceable["replaceable"], sums)
    return Measured(
        engine_version=version,
        layers=sums,
        disturbed=run.disturbed,
        alone_failure=run.failure,
        reference={name: np.stack(column) for name, column in run.reference.items()},
        outputs={name: np.stack(column) for name, column in run.outputs.items()},
        effects=effects,
    )


class _Run:
    """What comes together sample by sample."""

    def __init__(self, request: MeasureRequest) -> None:
        self.request = request
        self.runs = "quantized" in request.models
        self.sums = [Sums(layer.numbers) for layer in request.layers]
        self.reference: dict[str, list[Array]] = {}
        self.outputs: dict[str, list[Array]] = {}
        self.disturbed, self.failure = 0.0, ""
        self.alone: dict[str, Engine] = {}

    def sample(self, i: int) -> dict[str, Array]:
        return {name: np.asarray(array[i], order="C") for name, array in self.request.feeds.items()}

    def add(self, engines: Mapping[str, Engine], given: Mapping[str, Array]) -> None:
        values = {**given, **engines["float"].run(given)}
        found: dict[str, Array] = {}
        if self.runs:
            stored = {f.name: fixed_to(values[f"t{f.reference}"], f.numbers) for f in self.request.inputs}
            found = {**stored, **engines["quantized"].run(stored)}
            plain = {**stored, **engines["plain"].run(stored)}
            apart = [_apart(found, plain, layer) for layer in self.request.outputs]
            self.disturbed = max(self.disturbed, *apart)
            _keep(self.outputs, self.request.outputs, plain)
        _keep_float(self.reference, self.request.outputs, values)
        steps = self._steps(values)
        for one, layer in zip(self.sums, self.request.layers, strict=True):
            one.add(steps.seen(layer, found.get(f"t{layer.output}")))

    def _steps(self, values: Mapping[str, Array]) -> _Steps:
        steps = _Steps(self.request.layers, values)
        if self.alone:
            try:
                steps.run(self.alone)
            except (EngineError, InputError) as error:
                self.alone, self.failure = {}, error.message
        return steps

    def effects(self, model: Engine, replaceable: Engine, sums: Sequence[LayerSums]) -> Array:
        """Return what the layers with an error of their own do to the outputs, over the first samples."""
        layers = self.request.layers
        effects = Effects(replaceable, [f"t{o.reference}" for o in self.request.outputs], len(layers))
        chosen = worth_a_look(sums)
        for i in range(min(MOST_SAMPLES, len(next(iter(self.request.feeds.values()))))):
            given = self.sample(i)
            values = {**given, **model.run(given)}
            steps = self._steps(values)
            effects.reference(given, values)
            for place in chosen:
                own = own_value(steps.seen(layers[place], None), layers[place].numbers)
                if own is not None:
                    effects.add(place, f"t{layers[place].reference}", own)
        return effects.result()


def _apart(found: Mapping[str, Array], plain: Mapping[str, Array], output: Layer) -> float:
    name = f"t{output.output}"
    a, b = real(found[name], output.numbers), real(plain[name], output.numbers)
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        return 0.0
    spread = float(np.ptp(b[both])) or 1.0
    return float(np.abs(a - b)[both].max()) / spread


def _keep(columns: dict[str, list[Array]], outputs: Sequence[Layer], found: Mapping[str, Array]) -> None:
    for layer in outputs:
        value = real(found[f"t{layer.output}"], layer.numbers).astype(np.float32)
        columns.setdefault(f"t{layer.reference}", []).append(np.nan_to_num(value))


def _keep_float(columns: dict[str, list[Array]], outputs: Sequence[Layer], values: Mapping[str, Array]) -> None:
    for layer in outputs:
        name = f"t{layer.reference}"
        columns.setdefault(name, []).append(values[name].astype(np.float32))


class _Steps:
    """One sample through every layer on its own, and through the float operators with the same inputs."""

    def __init__(self, layers: Sequence[Layer], values: Mapping[str, Array]) -> None:
        self.layers, self.values = layers, values
        self.own: Mapping[str, Array] = {}
        self.floats: Mapping[str, Array] = {}
        self.weights: Mapping[str, Array] = {}

    def run(self, engines: Mapping[str, Engine]) -> None:
        stored, floats = {}, {}
        for layer in self.layers:
            for feed in layer.feeds if layer.alone else ():
                value = self.values[f"t{feed.reference}"]
                stored[feed.name] = fixed_to(value, feed.numbers)
                if layer.twin:
                    floats[feed.name] = self._as_computed(value, stored[feed.name], feed)
        self.floats = engines["float alone"].run(floats) if floats else {}
        self.weights = engines["weights alone"].run(floats) if floats else {}
        if "alone" in engines and stored:
            self.own = engines["alone"].run(stored)

    @staticmethod
    def _as_computed(value: Array, stored: Array, feed: Feed) -> Array:
        if feed.run_time:
            return _as_kernels_round(value, feed.run_time)
        return real(stored, feed.numbers).astype(np.float32) if feed.numbers.scale else value

    def seen(self, layer: Layer, found: Array | None) -> Seen:
        """Return the sample's values of one layer."""
        name = f"t{layer.reference}"
        reference = self.values[name]
        exact, weighed = (self.floats.get(name), self.weights.get(name)) if layer.twin else (None, None)
        if layer.passes:
            exact = weighed = rounded(reference, layer.feeds[0].numbers) if layer.feeds else reference
        own = self.own.get(f"t{layer.output}") if layer.alone else None
        return Seen(reference=reference, found=found, own=own, exact=exact, weighed=weighed)
