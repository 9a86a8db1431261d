"""One precision for most layers, others for those that are named: a layer that int8 ruins stays float, and so on.

::

    CONV_2D(f32) -> FULLY_CONNECTED(f32)   =>   CONV_2D(int8) -> DEQUANTIZE -> FULLY_CONNECTED(f32)

Where integers meet floats stands a QUANTIZE or a DEQUANTIZE. `edgepack.layers` lists what can be named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgepack import _flatbuffer_edit as edit
from edgepack.errors import PassError
from edgepack.flatbuffer import SubgraphView, read_model
from edgepack.layers import layers_of
from edgepack.model import PassRequest, PassResult
from edgepack.opversions import stamp
from edgepack.passes._choose import Assigned, LayerRule, Named, assigned
from edgepack.passes._forms import COMPANIONS, STATIC, WEIGHT_BITS, Rule, form_of, rule_for
from edgepack.passes._halves import halve
from edgepack.passes._quantizer import Calibration, Source, load_source, quantize, read_options, tool
from edgepack.passes._static import Sampling, float_operators, made_ready, samples_of
from edgepack.passes._values import INTERFACE, check_least, check_precision
from edgepack.schemes import scheme_of_weight, weights

__all__ = ["SCHEME", "Options", "check", "run"]

SCHEME = "mixed"
_SMALLEST_HALF = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`base` is the precision of the layers that no rule names; of two rules that name the same layer the later wins.

    `samples` and `outliers` are as for full_integer, where something computes in integers. Where `base` has int8
    weights beside float activations, weights of fewer than `min_elements` stay float; a named layer's never do.

    Raises:
        PassError: a value is not allowed.
    """

    base: str = "dynamic_range"
    rules: tuple[LayerRule, ...] = ()
    samples: int = 200
    outliers: float = 0.05
    min_elements: int = 1024

    def __post_init__(self) -> None:
        check_precision(self.base)
        check_least("min_elements", self.min_elements)
        Sampling(samples=self.samples, outliers=self.outliers)


def run(request: PassRequest) -> PassResult:
    """Return the model with each layer in its precision, or in the nearest that the engine has for its operator.

    Raises:
        PassError: an option is wrong, a rule names no layer or none that can have its precision, calibration data is
            missing or does not fit, the model is quantized already, or nothing could be quantized.
        SourceModelError: the bytes are no TFLite model.
    """
    options = read_options(Options, request.options)
    sampling = Sampling(samples=options.samples, outliers=options.outliers)
    source = load_source(request)
    layers = _assigned(request, options)
    static = any(layer.precision in STATIC for layer in layers)
    if static:
        source = made_ready(source, request.engine)
    rules = [*_base_rules(source, options, request.engine), *_layer_rules(source, layers, request.engine)]
    chosen = tuple(samples_of(request, source, sampling.samples)) if static else ()
    notes = [*source.notes, *([f"calibrated on {len(chosen)} samples"] if static else [])]
    model = source.data
    if any(rule.weights for rule in rules):
        calibration = Calibration(samples=chosen, outliers=sampling.outliers)
        model, kept = quantize(source, rules, calibration, request.engine)
        notes += kept
    model, unhalved = _halved(model, layers)
    notes += [*unhalved, *_described(model, layers), *(float_operators(model) if static else ())]
    return PassResult(model=model, tool=f"{tool('ai-edge-quantizer')}; edgepack", notes=tuple(notes))


def check(request: PassRequest) -> Named:
    """Return how many layers of the model the options' rules name; quick, and asked long before the pass runs.

    Raises:
        PassError: an option is wrong, or a rule names no layer.
        SourceModelError: the bytes are no TFLite model.
    """
    options = read_options(Options, request.options)
    layers = assigned(layers_of(read_model(request.model)), options.base, options.rules)
    return Named(layers=sum(layer.named for layer in layers))


def _assigned(request: PassRequest, options: Options) -> tuple[Assigned, ...]:
    layers = layers_of(read_model(request.model))
    for rule in options.rules:
        named = [one.layer for one in assigned(layers, "float32", [rule]) if one.named]
        if not any(rule.precision in layer.precisions(request.engine) for layer in named):
            kinds = ", ".join(sorted({layer.operator for layer in named}))
            raise PassError(
                f"no layer of {', '.join(rule.layers)} ({kinds}) can be {rule.precision} on {request.engine}",
                hint=f"they can be {', '.join(named[0].precisions(request.engine))}",
            )
    return assigned(layers, options.base, options.rules)


def _base_rules(source: Source, options: Options, engine: str) -> Iterator[Rule]:
    """Yield the rules for all layers."""
    if options.base in STATIC:
        yield Rule(operator="*", activations=STATIC[options.base])
    for operator in sorted({operator.name for _, operator in source.view.operators()}):
        for scheme in (COMPANIONS.get(options.base, options.base), options.base):
            if rule := rule_for(operator, scheme, engine):
                yield replace(rule, min_elements=0 if scheme in STATIC else options.min_elements)


def _layer_rules(source: Source, layers: Sequence[Assigned], engine: str) -> Iterator[Rule]:
    """Yield the rules for the layers that are named, and that inputs and outputs stay float."""
    graph = source.view.subgraphs[0]
    groups: dict[Rule, list[tuple[str, ...]]] = {}
    for one, operator in zip(layers, graph.operators, strict=True):
        if one.named:
            outputs = tuple(graph.tensors[i].name for i in operator.outputs)
            groups.setdefault(_rule(one, engine), []).append(outputs)
    for rule, names in groups.items():
        yield replace(rule, layers=tuple(names))
    if any(one.precision in STATIC for one in layers):
        yield from (Rule(operator=name, weights=None) for name in INTERFACE)


def _rule(one: Assigned, engine: str) -> Rule:
    form = form_of(one.layer.operator, one.precision, engine)
    if form == "float32" and one.precision in STATIC:
        return Rule(operator="*", activations=STATIC[one.precision])
    return rule_for(one.layer.operator, form, engine) or Rule(weights=None)


def _halved(model: bytes, layers: Sequence[Assigned]) -> tuple[bytes, list[str]]:
    """Return the model with float16 constants in the layers that are to have them, and what had to stay."""
    if not any(one.precision == "float16" for one in layers):
        return model, []
    places = _places(read_model(model).subgraphs[0], layers)
    changed = edit.unpack(model)
    pairs = zip(places, layers, strict=True)
    spared = [place for place, one in pairs if place >= 0 and one.precision != "float16"]
    notes = halve(changed, changed.subgraphs[0], _SMALLEST_HALF, spared)
    return stamp(edit.pack(changed)), notes


def _places(graph: SubgraphView, layers: Sequence[Assigned]) -> list[int]:
    """Return where the layers' operators are, once quantizers stand between them."""
    between = ("QUANTIZE", "DEQUANTIZE")
    before = [one.layer.operator for one in layers if one.layer.operator not in between]
    found = [i for i, operator in enumerate(graph.operators) if operator.name not in between]
    if [graph.operators[i].name for i in found] != before:
        raise PassError("the quantizer changed the model's operators")
    places = iter(found)
    return [-1 if one.layer.operator in between else next(places) for one in layers]


def _described(model: bytes, layers: Sequence[Assigned]) -> Iterator[str]:
    """Yield how many layers got which precision, and which of the named ones another than was said."""
    view = read_model(model)
    graph = view.subgraphs[0]
    found = {w.position: scheme_of_weight(w) for w in weights(replace(view, subgraphs=(graph,)))}
    if not any(scheme != "float32" for scheme in found.values()):
        raise PassError("no weights were quantized", hint="name layers with more weights, or another precision")
    got = [(one, found.get(place)) for place, one in zip(_places(graph, layers), layers, strict=True)]
    counts = Counter(scheme for _, scheme in got if scheme)
    yield f"layers with weights: {', '.join(f'{count} {scheme}' for scheme, count in counts.most_common())}"
    for scheme in WEIGHT_BITS:
        other = [one.layer.name for one, s in got if one.named and s and s == scheme != one.precision]
        if other:
            more = ", …" if len(other) > 3 else ""
            yield f"named otherwise, but became {scheme}: {', '.join(other[:3])}{more}"
