"""The pictures of a frontier: the largest batch and the longest context of each GPU, way by way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wirecheck.frontier_records import Frontier, FrontierRow, Largest
from wirecheck.views import fit
from wirecheck.views.pictures import LINE, TEXT, WIDTH, Fill, Picture, Sheet, cut, sheet, width_of
from wirecheck.views.pictures_curves import of_curve
from wirecheck.views.words import visible

_TITLES: dict[fit.Axis, str] = {"batch": "The largest batch", "context": "The longest context"}
_UNITS: dict[fit.Axis, str] = {"batch": "rows", "context": "text tokens"}
_MOST_ROWS = 160
"""Rows of one picture; the tables hold all of them."""
_ROW, _BAR = 21, 14
"""Units from one row to the next, and of a bar's height."""
_SURE, _MAYBE = Fill("wire-mid"), Fill("wire-soft", "//")
_LEGEND = 12
"""Units below the legend."""


def of_frontier(frontier: Frontier) -> tuple[Picture, ...]:
    """One picture for each axis along which something was found: the rows of the tables, grouped by way; and curves.

    A picture of curves is there for each way in which one goes on past the context asked for.
    """
    made = (*(_axis(frontier, axis) for axis in fit.AXES), *map(of_curve, fit.View(frontier).curves))
    return tuple(one for one in made if one is not None)


@dataclass(frozen=True)
class _Row:
    """One bar: the cell of the table, and the figures it stands for."""

    gpu: str
    cell: str
    found: Largest | None


def _axis(frontier: Frontier, axis: fit.Axis) -> Picture | None:
    groups = _groups(frontier, axis)
    rows = [row for _, own in groups for row in own]
    most = max((_reach(row.found) for row in rows), default=0)
    if not most or len(rows) > _MOST_ROWS:
        return None
    maybe = any(row.found is not None and row.found.may_fit > row.found.fits and not row.found.ended for row in rows)
    heads = {row.gpu for row in rows}
    left = min(190.0, max(map(width_of, heads)) + 10)
    room = WIDTH - left - max(width_of(row.cell) for row in rows) - 8
    head = LINE + _LEGEND
    height = head + sum(LINE + 8 + _ROW * len(own) + 8 for _, own in groups)
    with sheet(f"fit-{axis}", height) as drawn:
        _legend(drawn, axis, maybe=maybe)
        y = float(head)
        for way, own in groups:
            drawn.text(0, y + TEXT, cut(way, WIDTH, bold=True), bold=True)
            y += LINE + 8
            drawn.line([left, left], [y - 3, y + _ROW * len(own) - 3], "mute")
            for row in own:
                _bar(drawn, row, (left, y, room / most), {"gpu": row.gpu, "way": way})
                y += _ROW
            y += 8
        return drawn.finish(_TITLES[axis], _told(frontier, axis, groups))


def _groups(frontier: Frontier, axis: fit.Axis) -> list[tuple[str, list[_Row]]]:
    """The ways in the order of the tables, each with its GPUs."""
    view = fit.View(frontier)
    found = []
    for way in frontier.ways:
        own = [row for row in frontier.rows if row.way == way.name]
        if own:
            rows = [_Row(visible(view.head(row)), view.cell(row, axis), _of(row, axis)) for row in own]
            found.append((visible(way.words), rows))
    return found


def _of(row: FrontierRow, axis: fit.Axis) -> Largest | None:
    return row.batch if axis == "batch" else row.context


def _reach(found: Largest | None) -> int:
    """Where a bar ends: an axis that ended before the memory says nothing above `fits`."""
    if found is None:
        return 0
    return found.fits if found.ended else max(found.fits, found.may_fit)


def _legend(drawn: Sheet, axis: fit.Axis, *, maybe: bool) -> None:
    words = f"{_UNITS[axis]} that fit"
    drawn.rectangle(0, 3, 14, 13, _SURE)
    drawn.text(20, TEXT + 1, words)
    if maybe:
        x = 20 + width_of(words) + 16
        drawn.rectangle(x, 3, 14, 13, _MAYBE)
        drawn.text(x + 20, TEXT + 1, "within the stated error")


def _bar(drawn: Sheet, row: _Row, place: tuple[float, float, float], told: dict[str, str]) -> None:
    left, y, scale = place
    drawn.text(0, y + 12, cut(row.gpu, left - 8))
    fits, reach = (0 if row.found is None else row.found.fits), _reach(row.found)
    if fits:
        drawn.rectangle(left, y, fits * scale, _BAR, _SURE, **told, fits=fits)
    if reach > fits:
        drawn.rectangle(left + fits * scale, y, (reach - fits) * scale, _BAR, _MAYBE, **told, may_fit=reach)
    drawn.text(left + reach * scale + 6, y + 12, row.cell, tone="ink" if reach else "mute")


def _told(frontier: Frontier, axis: fit.Axis, groups: Sequence[tuple[str, Sequence[_Row]]]) -> str:
    train = frontier.train
    at = f"at {train.context:,} text tokens" if axis == "batch" else f"at batch {train.batch:,}"
    said = []
    for way, rows in groups:
        ranked = sorted(rows, key=lambda row: -_reach(row.found))
        said.append(f"{way[:1].upper()}{way[1:]}: {', '.join(f'{row.gpu} {row.cell}' for row in ranked)}.")
    return f"{_TITLES[axis]} in {_UNITS[axis]} {at}, by way and GPU. {' '.join(said)}"
