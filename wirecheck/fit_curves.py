"""Curves of `wirecheck fit`: the largest batch at more contexts than the one asked for, beside rows already found.

Each group of rows is drawn in a forked child of its own: a crash or a hang costs the points and no row. Prints nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from wirecheck.fork_pool import Answered, Died, Limits, in_forks
from wirecheck.frontier_records import CurvePoint, FrontierRow
from wirecheck.vram.gpus import find
from wirecheck.vram.plan import Step

W = TypeVar("W")


@dataclass(frozen=True)
class Group:
    """Rows of one way and one placement, on GPUs that choose the same kernels."""

    step: Step
    """In that way."""
    rows: tuple[FrontierRow, ...]


def rows_in_forks(
    todo: Sequence[W],
    made: Callable[[W], Iterable[FrontierRow]],
    lost: Callable[[W, str], list[FrontierRow]],
    *,
    jobs: int,
    limit_s: float,
) -> Iterator[list[FrontierRow]]:
    """The rows of each piece of work, in the order they come; `lost`: those of a piece whose child died, and why.

    Without fork the work is done here.
    """
    if not hasattr(os, "fork"):
        yield from (list(made(piece)) for piece in todo)
        return

    def answer(name: str) -> str:
        return json.dumps([row.model_dump(mode="json") for row in made(todo[int(name)])])

    for ended in in_forks([str(n) for n in range(len(todo))], answer, jobs=jobs, limits=Limits(seconds=limit_s)):
        match ended:
            case Answered(text=text):
                yield [FrontierRow.model_validate(row) for row in json.loads(text)]
            case Died(name=name, why=why):
                yield lost(todo[int(name)], why)


def with_curves(groups: Sequence[Group], jobs: int, limit_s: float) -> Iterator[list[FrontierRow]]:
    """The rows of each group with their curves, in the order they come. A row without an answer gets none."""
    yield from rows_in_forks(groups, drawn, _lost, jobs=jobs, limit_s=limit_s)


def drawn(group: Group) -> list[FrontierRow]:
    """The rows with their curves."""
    from wirecheck.vram.frontier import contexts_of, points

    open_rows, contexts = [row for row in group.rows if _goes_on(row)], contexts_of(group.step)
    found: dict[int, tuple[CurvePoint, ...]] = {}
    if open_rows and contexts:
        gpus = [(find(row.gpu), row.count) for row in open_rows]
        made = points(group.step, gpus, open_rows[0].placement, contexts)
        found = {id(row): own for row, own in zip(open_rows, made, strict=True)}
    return [_begun(row, group.step, found.get(id(row), ())) for row in group.rows]


def _lost(group: Group, why: str) -> list[FrontierRow]:
    from wirecheck.vram.frontier import contexts_of

    missing = tuple(CurvePoint(context=context, why=why) for context in contexts_of(group.step))
    return [_begun(row, group.step, missing if _goes_on(row) else ()) for row in group.rows]


def _goes_on(row: FrontierRow) -> bool:
    """Whether a row may fit at the context asked for."""
    return row.batch is not None and row.batch.may_fit > 0


def _begun(row: FrontierRow, step: Step, more: tuple[CurvePoint, ...]) -> FrontierRow:
    """A curve begins with what the row itself says."""
    if row.batch is None:
        return row
    first = CurvePoint(context=step.train.context, batch=row.batch)
    return FrontierRow.model_validate({**dict(row), "curve": (first, *more)})
