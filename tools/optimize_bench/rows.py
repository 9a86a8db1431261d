"""One line of the table: what a model weighs, how long it takes against float, and what it loses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgepack.auto import search_for
from edgepack.candidate import Candidate, apply_pass, examine
from edgepack.conversion import host_place
from edgepack.drop import measure_drop
from edgepack.errors import PassError, SourceModelError, WorkerError
from edgepack.flatbuffer import Signature, read_model
from edgepack.gate import Drop, Verdict
from edgepack.lab import LabResult
from edgepack.passoptions import PassOrder
from edgepack.release import Work
from edgepack.reporter import Reporter
from edgepack.timing import take_turns
from edgepack_runtime.engines import load
from edgepack_runtime.errors import EdgepackError, EngineError
from edgepack_runtime.plaintext import PlaintextModel, Room
from edgepack_runtime.tensors import Array

__all__ = ["Row", "auto_rows", "fixed_rows", "foreign_row", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A way to a model, and what was measured of it on all evaluation samples; `size` 0 where there is none."""

    name: str
    size: int = 0
    ratio: float = 0.0
    drops: tuple[Drop, ...] = ()
    verdict: str = ""

    @property
    def inside(self) -> bool:
        """Whether it is within the budget."""
        return self.verdict == "inside"


def _row(name: str, candidate: Candidate) -> Row:
    if candidate.model is None or candidate.lab is None:
        return Row(name=name, verdict="refused: " + ", ".join(r.found for r in candidate.refusals)[:120])
    timing = candidate.lab.timing
    return Row(
        name=name,
        size=len(candidate.model.data),
        ratio=timing.ratio if timing else 0.0,
        drops=candidate.drops,
        verdict="inside" if not candidate.refusals else _short(candidate),
    )


def _short(candidate: Candidate) -> str:
    checks = dict.fromkeys(r.check for r in candidate.refusals)
    unclear = {d.check for d in candidate.drops if d.verdict is Verdict.UNCLEAR}
    return "; ".join(f"{c}: not enough samples" if c in unclear else f"outside: {c}" for c in checks)


def fixed_rows(work: Work, reporter: Reporter) -> Iterator[Row]:
    """Yield every precision the profile supports, judged on all evaluation samples."""
    (profile,) = work.inputs.profiles
    engine = f"{profile.engine.name}=={profile.engine.version}"
    for scheme in profile.quantization[::-1]:
        try:
            model = apply_pass(
                work.model,
                PassOrder(scheme=scheme, engine=engine),
                work.samples.calibration_feeds(),
                host_place(reporter),
            )
        except PassError as error:
            yield Row(name=scheme, verdict=f"refused: {error.message[:120]}")
            continue
        yield _row(scheme, examine(model, scheme, profile, work.samples, work.bench))


def auto_rows(work: Work, reporter: Reporter) -> Iterator[Row]:
    """Yield what ``--optimize auto`` ships by size: as it judged it, and on all evaluation samples as the others."""
    (profile,) = work.inputs.profiles
    chosen, refusals = search_for(work, profile, reporter)
    if chosen is None or chosen.candidate.model is None or chosen.search is None:
        yield Row(name="auto", verdict="nothing: " + "; ".join(dict.fromkeys(r.check for r in refusals)))
        return
    shipped = next(t.trial.title for t in chosen.search.tried if t.fate == "shipped")
    yield _row(f"auto, held out: {shipped}", chosen.candidate)
    again = examine(chosen.candidate.model, chosen.candidate.scheme, profile, work.samples, work.bench)
    yield _row(f"auto, all samples ({len(chosen.search.tried)} candidates)", again)


def foreign_row(name: str, model: bytes, work: Work) -> Row:
    """Return what another tool's model of the same network does, whatever type its inputs and outputs have."""
    (profile,) = work.inputs.profiles
    try:
        view = read_model(model)
        signature = view.signatures[0]
        feeds = _stored(work.samples.feeds, view.subgraphs[signature.subgraph].tensors, signature)
        changed = replace(work.model, data=model)
        lab = work.bench.replay(changed, profile, feeds)
        outputs = _real(lab, view.subgraphs[signature.subgraph].tensors, signature)
        reference = work.samples.evaluated(work.samples.standard)
        named = _named(outputs, reference)
        ratio = _ratio(model, feeds, work)
        drops = measure_drop(work.recipe.gate, reference, work.samples.evaluated(named), work.samples.labels)
    except (EngineError, WorkerError, SourceModelError, EdgepackError, KeyError) as error:
        return Row(name=name, size=len(model), verdict=f"does not run: {str(error)[:120]}")
    inside = all(drop.verdict is Verdict.HOLDS for drop in drops)
    outside = ", ".join(d.check for d in drops if d.verdict is Verdict.WORSE)
    verdict = "inside" if inside else f"outside: {outside}" if outside else "not enough samples"
    return Row(name=name, size=len(model), ratio=ratio, drops=drops, verdict=verdict)


def _named(outputs: Mapping[str, Array], reference: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs by our names: a tool may call them otherwise, where there is only one of a shape."""
    found = {}
    for name, wanted in reference.items():
        alike = [other for other, values in outputs.items() if values.shape[1:] == wanted.shape[1:]]
        found[name] = outputs[name] if name in outputs or len(alike) != 1 else outputs[alike[0]]
    return found


def _ratio(model: bytes, feeds: Mapping[str, Array], work: Work) -> float:
    """Return the model's time against the float model's, by turns; their inputs may be of other types."""
    (profile,) = work.inputs.profiles
    first = {name: np.asarray(values[0], order="C") for name, values in feeds.items()}
    usual = {name: np.asarray(values[0], order="C") for name, values in work.samples.feeds.items()}

    def fill(content: bytes) -> Callable[[Room], None]:
        return lambda into: into.write(0, content)

    with (
        PlaintextModel(len(model), fill(model)) as one,
        PlaintextModel(len(work.bench.beside), fill(work.bench.beside)) as other,
    ):
        threads = profile.engine.num_threads
        mine = load(profile.engine.name, one.path or "", num_threads=threads)
        floating = load(profile.engine.name, other.path or "", num_threads=threads)
        mine.run(first), floating.run(usual)
        return take_turns(lambda: mine.run(first), lambda: floating.run(usual)).ratio


def _stored(feeds: Mapping[str, Array], tensors: tuple, signature: Signature) -> dict[str, Array]:  # type: ignore[type-arg]
    found = {}
    for name, index in signature.inputs:
        tensor = tensors[index]
        values = feeds[name] if name in feeds or len(feeds) > 1 else next(iter(feeds.values()))
        if tensor.dtype in ("int8", "uint8", "int16") and tensor.scales:
            limits = np.iinfo(tensor.dtype)
            whole = np.round(values / tensor.scales[0]) + tensor.zero_points[0]
            found[name] = np.clip(whole, limits.min, limits.max).astype(tensor.dtype)
        else:
            found[name] = values
    return found


def _real(lab: LabResult, tensors: tuple, signature: Signature) -> dict[str, Array]:  # type: ignore[type-arg]
    found = {}
    for name, index in signature.outputs:
        tensor, values = tensors[index], lab.outputs[name]
        if tensor.scales and values.dtype.kind in "iu":
            values = ((values.astype(np.float32) - tensor.zero_points[0]) * tensor.scales[0]).astype(np.float32)
        found[name] = values
    return found


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = ["| | bytes | of float's time | worst drop [95 %] | verdict |", "|---|---:|---:|---|---|"]
    for row in rows:
        worst = max(row.drops, key=lambda d: d.drop.high - d.budget, default=None)
        drop = (
            "-"
            if worst is None
            else (f"{worst.output} {worst.drop.value:+.4f} [{worst.drop.low:+.4f}, {worst.drop.high:+.4f}]")
        )
        ratio = f"{row.ratio:.2f}" if row.ratio else "-"
        name, verdict = (re.sub(r"[|\n]", " ", text) for text in (row.name, row.verdict))
        lines.append(f"| {name} | {row.size:,} | {ratio} | {drop} | {verdict} |")
    return "\n".join(lines) + "\n"
