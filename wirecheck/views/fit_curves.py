"""The curves of a frontier as tables: for each way the largest batch, GPUs down and contexts across."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wirecheck.frontier_records import Frontier, FrontierRow, Largest, WayName
from wirecheck.views.words import ABSENT

Cell = Callable[[Largest | None], str]
"""What a table says of an answer."""


@dataclass(frozen=True)
class CurveTable:
    """One way: a line for each row that has a curve."""

    way: WayName
    words: str
    contexts: tuple[int, ...]
    """Every context that one of the curves came to."""
    rows: tuple[FrontierRow, ...]
    cell: Cell

    @property
    def picture(self) -> str:
        """The name of the picture that shows the same."""
        return f"fit-frontier-{self.way}"

    def cells(self, row: FrontierRow) -> tuple[str, ...]:
        """One for each context; `—` past a curve's end."""
        return self._across({point.context: self.cell(point.batch) for point in row.curve})

    def sure(self, row: FrontierRow) -> tuple[str, ...]:
        """The same in a few letters each: what fits at the upper end of the error."""
        found = {point.context: "?" if point.batch is None else f"{point.batch.fits:,}" for point in row.curve}
        return self._across(found)

    def _across(self, found: Mapping[int, str]) -> tuple[str, ...]:
        return tuple(found.get(context, ABSENT) for context in self.contexts)


def tables(frontier: Frontier, cell: Cell) -> tuple[CurveTable, ...]:
    """The ways that have a curve, in the order of the other tables."""
    made = []
    for way in frontier.ways:
        rows = tuple(row for row in frontier.rows if row.way == way.name and row.curve)
        if rows:
            contexts = sorted({point.context for row in rows for point in row.curve})
            made.append(CurveTable(way.name, way.words, tuple(contexts), rows, cell))
    return tuple(made)


def untraced(frontier: Frontier, head: Callable[[FrontierRow], str]) -> tuple[tuple[str, str], ...]:
    """(GPU, way and contexts; reason) of the points that are missing, those of one reason together."""
    words = {way.name: way.words for way in frontier.ways}
    groups: dict[str, list[str]] = {}
    for row in frontier.rows:
        missing: dict[str, list[str]] = {}
        for point in row.curve:
            if point.why:
                missing.setdefault(point.why, []).append(f"{point.context:,}")
        for why, contexts in missing.items():
            at = ", ".join(contexts)
            groups.setdefault(why, []).append(f"{head(row)}, {words[row.way]}, at {at} text tokens")
    return tuple(("; ".join(where), why) for why, where in groups.items())
