"""What a search measured: a table of its candidates, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgepack.cli.show import console_for, print_table

if TYPE_CHECKING:
    from edgepack.builder import BuildResult
    from edgepack.trials import Search, Trial, Tried

__all__ = ["show_searches"]


def show_searches(results: Sequence[BuildResult]) -> None:
    """Print the candidates of each search; nothing where nothing was searched for."""
    console = console_for(stderr=False)
    for result in results:
        if result.search is None:
            continue
        columns = ["", "candidate", "model", "of float's time", "peak RAM", _heading(result.search), "fate"]
        console.print(f"{result.profile.name}: by {result.search.objective}, * on the Pareto front", soft_wrap=True)
        print_table(console, columns, [_row(tried) for tried in result.search.tried])
        console.print()


def _heading(search: Search) -> str:
    return f"worst drop on the {search.chosen_on} samples chosen by"


def _row(tried: Tried) -> list[str]:
    trial = tried.trial
    return [
        "*" if tried.on_front else "",
        trial.title,
        f"{trial.size / 1000:,.1f} kB" if trial.size else "-",
        f"{trial.ratio:.2f} [{trial.ratio_low:.2f}, {trial.ratio_high:.2f}]" if trial.ratio else "-",
        f"{trial.ram_bytes / 1000:,.1f} kB" if trial.ram_bytes else "-",
        _drop(trial),
        tried.fate,
    ]


def _drop(trial: Trial) -> str:
    if not trial.losses:
        return f"none, correlation {trial.likeness:.4f}" if trial.likeness else "-"
    worst = max(trial.losses, key=lambda loss: loss.high - loss.budget)
    return f"{worst.check} {worst.value:+.4f} [{worst.low:+.4f}, {worst.high:+.4f}]"
