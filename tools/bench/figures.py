"""One figure of the report: what was measured, its goal, and whether it was reached."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Figure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """`value` is reached when it is at most `goal`, or at least, where `least` says so; no goal: a fact."""

    what: str
    value: float
    unit: str
    goal: float | None = None
    least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.least else self.value <= self.goal

    def __str__(self) -> str:
        verdict = {None: "  ", True: "ok", False: "NO"}[self.met]
        wanted = "" if self.goal is None else f"at {'least' if self.least else 'most'} {self.goal:g} {self.unit}"
        return f"{verdict}  {self.what:<70} {self.value:>9.3f} {self.unit:<9} {wanted}".rstrip()
