"""``--optimize auto``: measure what the profile allows, choose under the budget, and judge what was chosen anew.

Candidates are measured on one part of the evaluation samples, and those of them that are brought forward are judged
on the rest, by the same gate. Every candidate is written to a journal before the next one is begun.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from edgepack import __version__
from edgepack.candidate import SIMILARITY, Candidate, Samples, apply_pass, examine, judged_as
from edgepack.conversion import host_place
from edgepack.errors import PassError, SourceModelError, WorkerError
from edgepack.flatbuffer import read_model
from edgepack.gate import Gate
from edgepack.holdout import part
from edgepack.journal import Journal, open_journal
from edgepack.layer_error import LayerRequest, Places
from edgepack.mixing import MIXED, Searching, families, harms_of, search_family
from edgepack.model import Refusal, TFLiteModel
from edgepack.ownmetric import function_notes
from edgepack.pareto import front
from edgepack.passoptions import PassOrder
from edgepack.recipe import AUTO
from edgepack.release import Chosen, Work
from edgepack.reporter import Reporter
from edgepack.schemes import is_stateful
from edgepack.trials import Harm, Loss, Search, Trial, Tried, confidences, cost_of, finalists, margin, unpromising
from edgepack_runtime._files import file_error, read_capped
from edgepack_runtime.profile import DeviceProfile

__all__ = ["build_digest", "search_for"]

_DIGITS = 4
# Layers are looked into with so many samples.
_SAMPLES = 6
# Where two families are searched, the first may use so much of what is left.
_FIRST_FAMILY = 0.7
# More than anybody writes by hand.
_MAX_CODE = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hunt:
    """What every candidate of one profile is measured with; `scale` is as for `trials.margin`."""

    work: Work
    profile: DeviceProfile
    reporter: Reporter
    choose: Samples
    judge: Samples

    @property
    def engine(self) -> str:
        """The engine as ``name==version``."""
        return f"{self.profile.engine.name}=={self.profile.engine.version}"

    @property
    def scale(self) -> float:
        """How wide an interval on the samples to judge by is, against one on those to choose by."""
        return math.sqrt(_evaluated(self.choose) / _evaluated(self.judge))

    def make(self, order: PassOrder) -> TFLiteModel | PassError:
        """Return the candidate's model, or why there is none."""
        place, samples = host_place(self.reporter), self.work.samples.calibration_feeds()
        try:
            return apply_pass(self.work.model, order, samples, place, keep_names=self.work.recipe.keep_names)
        except PassError as error:
            return error
        except WorkerError as error:
            # A quantizer that falls over one candidate must not end the search for all others.
            return PassError(error.message, hint=error.hint)


def _evaluated(samples: Samples) -> int:
    return len(next(iter(samples.feeds.values()))) - samples.calibration


def search_for(work: Work, profile: DeviceProfile, reporter: Reporter) -> tuple[Chosen | None, tuple[Refusal, ...]]:
    """Return the best candidate that passed on the held-out samples, or None and what speaks against all of them.

    Raises:
        DatasetError: there are too few evaluation samples to choose by some and judge by others.
        FileError: the journal cannot be written, or another build writes it.
        EdgepackError: something else failed that is no fault of a candidate.
    """
    asked = work.recipe.optimize
    choose, judge = part(work.samples, asked, stream=is_stateful(work.model.data))
    hunt = _Hunt(work=work, profile=profile, reporter=reporter, choose=choose, judge=judge)
    folder = work.recipe.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error("make", folder, error) from None
    path = folder / f"{work.recipe.product}-{profile.name}.candidates"
    with open_journal(path, build_digest(work, profile), Trial, reporter.say) as journal:
        bench = _Measuring(hunt, journal)
        try:
            for scheme in _schemes(work, profile):
                bench.measure(work.recipe.passes.order(scheme, hunt.engine), scheme)
            _mix(hunt, bench)
            return _judged(hunt, tuple(bench.trials))
        except (KeyboardInterrupt, SystemExit):
            kept = journal.written()
            reporter.say(f"stopped: {kept} candidates are kept in {path}; the same command goes on there")
            raise


def _mix(hunt: _Hunt, bench: _Measuring) -> None:
    """Search for mixed precisions with the candidates that are left: most of them where the objective gains most."""
    asked, allowed = hunt.work.recipe.optimize, _schemes(hunt.work, hunt.profile)
    found = families(read_model(hunt.work.model.data), hunt.engine, allowed)
    ordered = found if asked.objective == "size" else found[::-1]
    for family in ordered:
        left = asked.candidates - len(bench.trials)
        bench.most = (
            asked.candidates if family is ordered[-1] else len(bench.trials) + math.ceil(left * _FIRST_FAMILY)
        )
        searching = Searching(
            engine=hunt.engine,
            objective=asked.objective,
            scale=hunt.scale,
            measure=bench.measure,
            harms=bench.harms,
        )
        if family.name == "integers" and asked.objective == "size" and _smaller_already(bench.trials, hunt.scale):
            continue
        search_family(family, searching, hunt.reporter.say)


def _smaller_already(trials: Sequence[Trial], scale: float) -> bool:
    """Return whether something good is smaller than the integer model, which islands of float only make larger."""
    integer = [trial.size for trial in trials if trial.scheme == "full_integer" and trial.digest]
    good = [t.size for t in trials if t.digest and not t.refusals and margin(t, scale) >= 0]
    return bool(integer and good) and min(good) <= min(integer)


def _schemes(work: Work, profile: DeviceProfile) -> tuple[str, ...]:
    named = profile.quantization if work.recipe.schemes in ((), (AUTO,)) else work.recipe.schemes
    # What is to be mixed of them is what the search is for.
    return tuple(scheme for scheme in named if scheme != MIXED)


def build_digest(work: Work, profile: DeviceProfile) -> str:
    """Return a digest of what the figures of a candidate depend on.

    The source's digest stands for the converted model: converters do not give the same bytes twice. The number of
    candidates is not in it, so that a search can be continued with more of them.

    Raises:
        FileError: the file of the user's own metric or network cannot be read.
    """
    recipe, inputs = work.recipe, work.inputs
    parts = (
        inputs.source.digest,
        inputs.calibration.digest,
        "" if inputs.evaluation is None else inputs.evaluation.digest,
        "" if inputs.training is None else inputs.training.digest,
        "" if inputs.teacher is None else inputs.teacher.digest,
        repr(recipe.training),
        repr(profile),
        repr(recipe.gate),
        repr(replace(recipe.optimize, candidates=1, objective="size")),
        repr((recipe.converter, recipe.via, recipe.layout, recipe.keep_names)),
        # How the same files become samples, what their classes are, and the code of a metric.
        repr((recipe.processing, recipe.reading, inputs.labels, function_notes(recipe.gate))),
        # The code that builds the network a state dict has the weights of.
        "" if recipe.module is None else _code_digest(recipe.module.path),
        f"edgepack {__version__}, ai-edge-quantizer {version('ai-edge-quantizer')}",
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _code_digest(path: Path) -> str:
    return hashlib.sha256(read_capped(path, _MAX_CODE)).hexdigest()


class _Measuring:
    """Measure candidates, each once: in this process, or in an earlier one that kept a journal."""

    def __init__(self, hunt: _Hunt, journal: Journal[Trial]) -> None:
        self._hunt, self._journal = hunt, journal
        self._by_digest: dict[str, Trial] = {}
        self.trials: list[Trial] = []
        self.most = hunt.work.recipe.optimize.candidates

    def measure(self, order: PassOrder, title: str) -> Trial | None:
        """Return what is known of a candidate; None when no more may be measured."""
        key = f"{order.scheme} {order.options}"
        for trial in self.trials:
            if f"{trial.scheme} {trial.options}" == key:
                return trial
        if len(self.trials) >= self.most:
            return None
        found = self._journal.find(key)
        if found is None:
            with self._hunt.reporter.step(f"candidate {len(self.trials) + 1} of at most {self.most}: {title}"):
                found = self._new(order, title)
            self._journal.add(key, found)
        if found.digest:
            self._by_digest.setdefault(found.digest, found)
        self.trials.append(found)
        return found

    def harms(self, order: PassOrder) -> tuple[Harm, ...]:
        """Return what the layers' own errors of one candidate do to the outputs.

        Raises:
            EngineError: the engine cannot run the float model's layers.
            SourceModelError: a model cannot be looked into, or there is none.
            WorkerError: that crashed or hung.
        """
        hunt, key = self._hunt, f"layers of {order.scheme} {order.options}"
        found = self._journal.find(key)
        if found is None:
            with hunt.reporter.step("measuring what each layer's precision does to the outputs"):
                model = hunt.make(order)
                if isinstance(model, PassError):
                    raise SourceModelError(model.message)
                samples = {n: a[hunt.choose.calibration :][:_SAMPLES] for n, a in hunt.choose.feeds.items()}
                request = LayerRequest(
                    float_model=hunt.work.model.data,
                    quantized=model.data,
                    feeds=samples,
                    engine=hunt.profile.engine,
                )
                places = Places(host=host_place(hunt.reporter), engine=hunt.work.bench.engines[hunt.engine])
                harms = harms_of(request, places)
            found = Trial(title="layers", scheme=order.scheme, options=order.options, harms=harms)
            self._journal.add(key, found)
        return found.harms

    def _new(self, order: PassOrder, title: str) -> Trial:
        hunt = self._hunt
        model = hunt.make(order)
        digest = "" if isinstance(model, PassError) else hashlib.sha256(model.data).hexdigest()
        if known := self._by_digest.get(digest):
            return replace(known, title=title, scheme=order.scheme, options=order.options)
        candidate = examine(model, order.scheme, hunt.profile, hunt.choose, hunt.work.bench)
        return trial_of(candidate, order, title, trained=hunt.work.before is not None)


def trial_of(candidate: Candidate, order: PassOrder, title: str, *, trained: bool) -> Trial:
    """Return what of a candidate a journal keeps; `trained` models count their loss from another float model."""
    model, lab = candidate.model, candidate.lab
    if model is None or lab is None:
        digest, size = ("", 0) if model is None else (hashlib.sha256(model.data).hexdigest(), len(model.data))
        return Trial(
            title=title,
            scheme=order.scheme,
            options=order.options,
            digest=digest,
            size=size,
            refusals=candidate.refusals,
        )
    drops = {drop.check: drop for drop in candidate.drops}
    # What is the float model to a thousandth has nothing to lose, and no number of samples to show it by.
    is_float = not trained and SIMILARITY[judged_as(candidate.scheme, model.data)][0] == "error"
    timing = lab.timing
    return Trial(
        title=title,
        scheme=order.scheme,
        options=order.options,
        digest=hashlib.sha256(model.data).hexdigest(),
        size=len(model.data),
        losses=tuple(
            Loss(
                check=drop.check,
                value=drop.drop.value,
                low=drop.drop.low,
                high=drop.drop.high,
                budget=drop.budget,
            )
            for drop in drops.values()
            if not is_float
        ),
        likeness=min((parity.correlation for parity in candidate.parities), default=0.0),
        milliseconds=lab.latency_ms if timing is None else timing.milliseconds,
        ratio=0.0 if timing is None else timing.ratio,
        ratio_low=0.0 if timing is None else timing.ratio_low,
        ratio_high=0.0 if timing is None else timing.ratio_high,
        ram_bytes=lab.ram_bytes,
        refusals=tuple(r for r in candidate.refusals if is_float or r.check not in drops),
    )


def _judged(hunt: _Hunt, trials: tuple[Trial, ...]) -> tuple[Chosen | None, tuple[Refusal, ...]]:
    """Return the first finalist that passes on the held-out samples, with the report of the whole search."""
    asked, gate = hunt.work.recipe.optimize, hunt.work.recipe.gate
    called = finalists(trials, asked.objective, hunt.scale)
    levels = confidences(len(called), gate.confidence)
    fates: dict[int, str] = {}
    refusals: list[Refusal] = []
    for trial, level in zip(called, levels, strict=False):
        with hunt.reporter.step(f"judging {trial.title} on {_evaluated(hunt.judge)} held-out samples"):
            candidate = _judge(hunt, trial, level)
        if candidate.refusals:
            fates[id(trial)] = "refused on the held-out samples: " + ", ".join(r.check for r in candidate.refusals)
            refusals += candidate.refusals
            continue
        fates[id(trial)] = "shipped"
        note = _note(hunt, trials, trial, level)
        report = _report(hunt, trials, fates, (level, note))
        return Chosen(profile=hunt.profile, candidate=candidate, tried=(), notes=(note,), search=report), ()
    return None, (*refusals, *_refusals(hunt, trials))


def _judge(hunt: _Hunt, trial: Trial, level: float) -> Candidate:
    order = PassOrder(scheme=trial.scheme, engine=hunt.engine, options=trial.options)
    bench = replace(hunt.work.bench, gate=_at(hunt.work.recipe.gate, level))
    return examine(hunt.make(order), trial.scheme, hunt.profile, hunt.judge, bench)


def _at(gate: Gate, level: float) -> Gate:
    return replace(gate, confidence=level, also=tuple(replace(one, confidence=level) for one in gate.also))


def _note(hunt: _Hunt, trials: tuple[Trial, ...], trial: Trial, level: float) -> str:
    asked = hunt.work.recipe.optimize
    return (
        f"--optimize auto: {trial.title} was chosen by {asked.objective} among {len(trials)} candidates, measured on "
        f"{_evaluated(hunt.choose)} evaluation samples, and was judged on the {_evaluated(hunt.judge)} others at "
        f"{100 * round(level, _DIGITS):g} % confidence (seed {asked.seed})"
    )


def _report(hunt: _Hunt, trials: tuple[Trial, ...], fates: dict[int, str], said: tuple[float, str]) -> Search:
    asked = hunt.work.recipe.optimize
    ran = [trial for trial in trials if trial.digest and trial.milliseconds]
    best = front(ran, lambda t: (t.size, t.ratio or t.milliseconds, -margin(t, hunt.scale)))
    tried = [
        Tried(trial=trial, on_front=trial in best, fate=fates.get(id(trial)) or _fate(trial, trials, hunt, fates))
        for trial in trials
    ]
    return Search(
        tried=tuple(tried),
        objective=asked.objective,
        chosen_on=_evaluated(hunt.choose),
        judged_on=_evaluated(hunt.judge),
        confidence=said[0],
        note=said[1],
    )


def _fate(trial: Trial, trials: tuple[Trial, ...], hunt: _Hunt, fates: dict[int, str]) -> str:
    if why := unpromising(trial, hunt.scale):
        return why
    shipped = next(t for t in trials if fates.get(id(t)) == "shipped")
    objective = hunt.work.recipe.optimize.objective
    first, second = cost_of(trial, objective), cost_of(shipped, objective)
    if first[0] < second[0]:
        return "passed here, with less room in the budget than those judged in its place"
    return "within the budget; " + ("larger" if objective == "size" else "slower") + f" than {shipped.title}"


def _refusals(hunt: _Hunt, trials: tuple[Trial, ...]) -> tuple[Refusal, ...]:
    """Return what speaks against the candidates that were not judged."""
    found = [refusal for trial in trials for refusal in trial.refusals]
    found += [
        Refusal(
            profile=hunt.profile.name,
            scheme=trial.title,
            check="chosen by",
            found=why,
            wanted="within the budget",
            remedy="more evaluation samples, or a wider --max-drop",
        )
        for trial in trials
        if not trial.refusals and (why := unpromising(trial, hunt.scale))
    ]
    return tuple(found)
