"""The fit frontier: for one way, the largest batch against the context, a line for each GPU; both axes logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log2

from wirecheck.frontier_records import CurvePoint, FrontierRow
from wirecheck.views import fit
from wirecheck.views.fit_curves import CurveTable
from wirecheck.views.pictures import LINE, TEXT, WIDTH, Fill, Picture, Sheet, cut, sheet, width_of
from wirecheck.views.words import visible

_HUES = ("a", "b", "wire", "rest")
"""In turn, a GPU's in all ways the same; lines of one hue differ in their strokes."""
_STROKES = ("solid", (0, (5, 2)), (0, (1.5, 2)))
_TOP, _HEIGHT = 2 * LINE + 12, 260
"""Units above the field, and of its height."""
_DOT, _GAP = 6, 16
"""Units of a point's width, and from one name to the next at least."""
_MOST_LINES = 12
"""Of one picture; the tables hold all of them."""
_MOST_TICKS = 7


def of_curve(table: CurveTable) -> Picture | None:
    """The picture of one way; None where no curve goes on past the context asked for, or there are too many."""
    lines = {n: row for n, row in enumerate(table.rows) if _drawn(row)}
    if not any(len(_drawn(row)) > 1 for row in lines.values()) or len(lines) > _MOST_LINES:
        return None
    points = [point for row in lines.values() for point in _drawn(row)]
    left = min(190.0, max(width_of(visible(fit.View.head(row))) for row in lines.values()) + 24)
    contexts = sorted({point.context for point in points})
    most = max(_reach(point) for point in points)
    field = _Field(left, WIDTH - width_of(f"{most:,}") - 14, contexts[0], contexts[-1], most)
    with sheet(table.picture, _TOP + _HEIGHT + 2 * LINE + 8) as drawn:
        _ground(drawn, field, contexts)
        names = _apart([(field.y(_reach(_drawn(row)[0])), n) for n, row in lines.items()])
        for number, row in lines.items():
            _line(drawn, field, table, (number, row, names[number]))
        return drawn.finish(f"The largest batch by context, {table.words}", _told(table))


@dataclass(frozen=True)
class _Field:
    """Where figures stand."""

    left: float
    right: float
    first: int
    last: int
    most: int

    def x(self, context: int) -> float:
        """Of a context."""
        whole = log2(max(self.last, 2) / max(self.first, 1)) or 1.0
        return self.left + 12 + (self.right - self.left - 24) * log2(max(context, 1) / max(self.first, 1)) / whole

    def y(self, rows: int) -> float:
        """Of a number of rows; none are below one."""
        if not rows:
            return _TOP + _HEIGHT
        return _TOP + (_HEIGHT - 16) * (1 - log2(rows) / (log2(self.most) or 1.0))


def _drawn(row: FrontierRow) -> list[CurvePoint]:
    """The points of a curve where something may fit."""
    return [point for point in row.curve if _reach(point)]


def _reach(point: CurvePoint) -> int:
    if point.batch is None:
        return 0
    return point.batch.fits if point.batch.ended else point.batch.may_fit


def _ground(drawn: Sheet, field: _Field, contexts: Sequence[int]) -> None:
    """Legend, ticks and their lines."""
    drawn.rectangle(0, 5, _DOT + 2, _DOT + 2, Fill("rest-mid"))
    drawn.text(14, TEXT, "rows that fit")
    x = 14 + width_of("rows that fit") + 16
    drawn.line([x, x], [2, 15], "rest-soft", 3.0)
    drawn.text(x + 8, TEXT, "within the stated error")
    whole = ceil(log2(max(field.most, 2)))
    step = ceil((whole + 1) / _MOST_TICKS)
    for power in range(0, floor(log2(field.most)) + 1, step):
        y = field.y(1 << power)
        drawn.line([field.left, field.right], [y, y])
        drawn.text(WIDTH, y + 5, f"{1 << power:,}", tone="mute", anchor="right")
    drawn.text(WIDTH, _TOP - 12, "rows", tone="mute", anchor="right")
    bottom, free = _TOP + _HEIGHT, 0.0
    for context in contexts:
        x, words = field.x(context), f"{context:,}"
        drawn.line([x, x], [bottom, bottom + 5], "mute")
        if x - width_of(words) / 2 >= free:
            drawn.text(x, bottom + LINE, words, tone="mute", anchor="center")
            free = x + width_of(words) / 2 + 6
    drawn.line([field.left, field.right], [bottom, bottom], "mute")
    drawn.text((field.left + field.right) / 2, bottom + 2 * LINE, "text tokens", tone="mute", anchor="center")


def _apart(wanted: Sequence[tuple[float, int]]) -> dict[int, float]:
    """Places of names, by number: in the order wanted, apart, and inside the field."""
    placed: list[tuple[float, int]] = []
    for y, number in sorted(wanted):
        placed.append((max(y, placed[-1][0] + _GAP if placed else y), number))
    low = _TOP + _HEIGHT - 2.0
    for n in range(len(placed) - 1, -1, -1):
        placed[n] = (min(placed[n][0], low), placed[n][1])
        low = placed[n][0] - _GAP
    return {number: y for y, number in placed}


def _line(drawn: Sheet, field: _Field, table: CurveTable, one: tuple[int, FrontierRow, float]) -> None:
    """One GPU: its name, its line, and a point for each context, with what is within the error above it."""
    number, row, name_at = one
    hue, stroke = _HUES[number % len(_HUES)], _STROKES[number // len(_HUES) % len(_STROKES)]
    gpu, points = visible(fit.View.head(row)), _drawn(row)
    shift = (number % 8 - 3.5) * 1.2  # GPUs of one size lie on each other
    x = [field.x(point.context) + shift for point in points]
    y = [field.y(point.batch.fits if point.batch else 0) for point in points]
    drawn.text(0, name_at + 5, cut(gpu, field.left - 20), tone=f"{hue}-strong")
    told = {"gpu": gpu, "way": table.words}
    for at, place, point in zip(x, y, points, strict=True):
        if point.batch is not None and _reach(point) > point.batch.fits:
            whisker = drawn.line([at, at], [place, field.y(_reach(point))], f"{hue}-soft", 3.0)
            drawn.tag(whisker, **told, context=point.context, may_fit=_reach(point))
    known = [(at, place) for at, place, point in zip(x, y, points, strict=True) if point.batch and point.batch.fits]
    start = (min(x[0], known[0][0]) if known else x[0], known[0][1] if known else field.y(_reach(points[0])))
    drawn.line([field.left - 14, start[0]], [name_at, start[1]], f"{hue}-soft", 0.8)
    for (x0, y0), (x1, y1) in pairwise(known):
        drawn.line([x0, x1], [y0, y1], f"{hue}-mid", 1.8, linestyle=stroke)
    for at, place, point in zip(x, y, points, strict=True):
        if point.batch is not None and point.batch.fits:
            made = (at - _DOT / 2, place - _DOT / 2, _DOT, _DOT)
            dot = drawn.rectangle(*made, Fill(f"{hue}-mid"))
            drawn.tag(dot, **told, context=point.context, fits=point.batch.fits)


def _told(table: CurveTable) -> str:
    said = []
    for row in table.rows:
        cells = zip(table.contexts, table.cells(row), strict=True)
        known = {point.context for point in row.curve}
        at = ", ".join(f"{cell} at {context:,}" for context, cell in cells if context in known)
        said.append(f"{fit.View.head(row)}: {at}.")
    return f"The largest batch in rows by text tokens of context, {table.words}. {' '.join(said)}"
