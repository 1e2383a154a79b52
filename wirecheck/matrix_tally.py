"""What a matrix comes to, told cell by cell: counts, causes, the best pairs, and a grid where the models are few."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from wirecheck.matrix_records import Matrix, MatrixCell

BEST = 25
"""Pairs that a report's ranking names, where no other number is asked for."""
MOST_GRID = 80
"""More models are no grid in a browser: it would be slow to read and above 400 KB."""
_WORST = ("compatible", "unproven", "not-run", "could-not-check", "incompatible")


def rank(cell: MatrixCell) -> tuple[float | str, ...]:
    """The best first: verdict, the rung it stands on, fewer warnings, less memory, token lengths that are nearest."""
    ratio = cell.token_length_ratio or 0.0
    apart = max(ratio, 1 / ratio) if ratio > 0 else float("inf")
    memory = float("inf") if cell.memory is None else float(cell.memory)
    rung = -1 if cell.strength is None else cell.strength.rank
    return (_WORST.index(cell.outcome), -rung, cell.warnings, memory, apart, cell.a, cell.b)


def ranked(cells: Iterable[MatrixCell]) -> list[MatrixCell]:
    """All of them, the best first."""
    return sorted(cells, key=rank)


@dataclass
class Tally:
    """Sums over cells, none of which is held but for the best ones and those of a grid."""

    models: int
    top: int = BEST
    """Pairs of the ranking."""
    count: int = 0
    kept: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    causes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(code, model or `the pair`) -> pairs."""
    claims: dict[tuple[str, str], str] = field(default_factory=dict)
    """(code, model or `the pair`) -> one of its claims, the same whatever the order of the cells."""
    memory: tuple[int, int] | None = None
    """The least and the most bytes of a pair."""
    grid: dict[frozenset[str], MatrixCell] = field(default_factory=dict)
    _waiting: list[MatrixCell] = field(default_factory=list)
    """The best so far, and those that came since they were last sorted."""

    @classmethod
    def of(cls, found: Matrix, top: int = BEST) -> Tally:
        """Of a record with all its cells."""
        made = cls(len(found.models), top)
        for cell in found.cells:
            made.add(cell)
        return made

    def add(self, cell: MatrixCell) -> None:
        """One cell more."""
        self.count += 1
        self.kept += cell.kept
        self.outcomes[cell.outcome] += 1
        claims: dict[tuple[str, str], str] = {}
        for cause in cell.causes:
            key = cause.code, {"a": cell.a, "b": cell.b}.get(cause.subject, "the pair")
            claims[key] = min(cause.claim, claims.get(key, cause.claim))
        for key, claim in claims.items():
            self.causes[key] += 1
            self.claims[key] = min(claim, self.claims.get(key, claim))
        if cell.memory is not None:
            least, most = self.memory or (cell.memory, cell.memory)
            self.memory = (min(least, cell.memory), max(most, cell.memory))
        if self.models <= MOST_GRID:
            self.grid[frozenset((cell.a, cell.b))] = cell
        self._waiting.append(cell)
        if len(self._waiting) > 2 * self.top + 1000:
            self._waiting = self.best

    @property
    def best(self) -> list[MatrixCell]:
        """The first `top` of the ranking."""
        return heapq.nsmallest(self.top, self._waiting, key=rank)
