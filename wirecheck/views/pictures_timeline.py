"""The picture of live memory over the step: its phases, its peak, and what the peak is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wirecheck.schema import MemoryTimeline
from wirecheck.views.pictures import LINE, TEXT, WIDTH, Picture, Sheet, cut, sheet, size, width_of
from wirecheck.views.pictures_memory import Held, by_name, fill_of, made_of, stacked

_LEFT, _HIGH, _TOP = 34, 240, 26
"""Of the plot: its left edge, its height, its upper edge."""
_PHASE_ROWS = 4
"""Rows of text for the names of the phases: narrow ones are told one below the other."""


def over_time(line: MemoryTimeline) -> Picture | None:
    """Live memory over the step, with the peak and what it is made of; None where nothing is ever alive."""
    count = len(line.parts[0].bytes)
    whole = Held(tuple(map(str, range(count))), by_name((part.name, part.bytes) for part in stacked(line)))
    if max(whole.totals) == 0:
        return None
    held = whole.few()
    placed = _phase_names(line)
    foot = _TOP + _HIGH + 10 + LINE * (1 + max((row for _, _, row in placed), default=0))
    entries = made_of(held, line.peak)
    with sheet("memory-timeline", foot + LINE * (len(entries) + 2)) as drawn:
        plot = _Plot(drawn, count, held.totals[line.peak])
        plot.grid()
        plot.areas(held, line.peak)
        plot.peak(line)
        plot.phases(line, placed)
        drawn.text(0, foot + LINE - 4, f"At the peak: {size(held.totals[line.peak])}", bold=True)
        drawn.legend(foot + LINE + 2, entries)
        return drawn.finish("What is alive over the step", _told_over_time(line, whole))


@dataclass(frozen=True)
class _Plot:
    """The plot of a timeline: moments to the right, bytes upwards."""

    drawn: Sheet
    count: int
    most: int

    def x(self, moment: float) -> float:
        return _x(moment, self.count)

    def y(self, held: float) -> float:
        return _TOP + _HIGH * (1 - held / (self.most * 1.02))

    def grid(self) -> None:
        """A line at a few round figures of memory."""
        from matplotlib.ticker import MaxNLocator

        unit, name = (2**30, "GiB") if self.most >= 10**9 else (2**20, "MiB")
        for tick in MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0, self.most / unit):
            y = self.y(tick * unit)
            if y < _TOP - 1:
                continue
            self.drawn.line([_LEFT, WIDTH], [y, y], "line", zorder=0.5)
            self.drawn.text(_LEFT - 6, y + 5, f"{tick:g}", tone="mute", anchor="right")
        self.drawn.text(0, TEXT - 2, name, tone="mute")

    def areas(self, held: Held, peak: int) -> None:
        """The parts, each from the ground to its upper edge, the uppermost first: an edge is drawn but once."""
        import numpy as np
        from matplotlib.patches import Polygon
        from matplotlib.path import Path

        edges, below = [], (0,) * self.count
        for part, counts in held.parts.items():
            below = tuple(map(sum, zip(below, counts, strict=True)))
            edges.append((part, counts, below))
        for part, counts, edge in reversed(edges):
            if not any(counts):
                continue
            places = [(self.x(moment), self.y(bytes_)) for moment, bytes_ in enumerate(edge)]
            if self.count == 1:
                places.append((WIDTH, places[0][1]))
            simple = Path(places).cleaned(simplify=True)
            top = np.asarray(simple.vertices)[np.asarray(simple.codes) != Path.STOP]
            ground = self.y(0)
            outline = [(top[0, 0], ground), *top, (top[-1, 0], ground)]
            made = self.drawn.page.add_patch(Polygon(outline, closed=True, **fill_of(part).style()))
            self.drawn.tag(made, part=part, bytes=counts[peak])

    def peak(self, line: MemoryTimeline) -> None:
        """A mark at the fullest moment, with its figure and its phase."""
        x, total = self.x(line.peak), line.totals[line.peak]
        self.drawn.line([x, x], [_TOP - 6, self.y(0)], "ink", 1.2, linestyle=(0, (3, 2)))
        mark = self.drawn.line([x], [self.y(total)], "ink", marker="o", markersize=7)
        self.drawn.tag(mark, peak=line.peak, bytes=total)
        words = f"peak {size(total)}, {cut(_phase_at(line, line.peak), 160)}"
        wide = width_of(words, bold=True) / 2
        self.drawn.text(min(max(x, _LEFT + wide), WIDTH - wide), TEXT - 2, words, anchor="center", bold=True)

    def phases(self, line: MemoryTimeline, placed: Sequence[tuple[str, float, int]]) -> None:
        """A stroke where a phase begins, and its name below its stretch."""
        ground = self.y(0)
        self.drawn.line([_LEFT, WIDTH], [ground, ground], "ink")
        for phase in line.phases:
            self.drawn.line([self.x(phase.first)] * 2, [ground, ground + 7], "ink")
        for (*_, row), phase, end in zip(placed, line.phases, line.ends(), strict=False):
            middle = (self.x(phase.first) + self.x(min(end, self.count - 1))) / 2
            if row:
                self.drawn.line([middle, middle], [ground + 7, ground + 8 + row * LINE], "line")
        for name, x, row in placed:
            self.drawn.text(x, ground + 20 + row * LINE, name, tone="mute", anchor="center", backed=True)


def _x(moment: float, count: int) -> float:
    return _LEFT + (WIDTH - _LEFT) * moment / max(1, count - 1)


def _phase_at(line: MemoryTimeline, moment: int) -> str:
    return [phase.name for phase in line.phases if phase.first <= moment][-1]


def _phase_names(line: MemoryTimeline) -> list[tuple[str, float, int]]:
    """(name, x of its middle, row of text) of the phases whose names find room, from the first on."""
    count, free, placed = len(line.parts[0].bytes), [-8.0] * _PHASE_ROWS, []
    for phase, end in zip(line.phases, line.ends(), strict=True):
        name = cut(phase.name, 200)
        wide = width_of(name) / 2
        middle = (_x(phase.first, count) + _x(min(end, count - 1), count)) / 2
        middle = min(max(middle, wide), WIDTH - wide)
        row = next((row for row, left in enumerate(free) if left + 8 <= middle - wide), None)
        if row is None:
            break
        free[row] = middle + wide
        placed.append((name, middle, row))
    return placed


def _told_over_time(line: MemoryTimeline, held: Held) -> str:
    """The same figures in words."""
    made = sorted(held.parts, key=lambda part: -held.parts[part][line.peak])
    parts = ", ".join(f"{part} {size(held.parts[part][line.peak])}" for part in made if held.parts[part][line.peak])
    spans = zip(line.phases, line.ends(), strict=True)
    most = ", ".join(f"{phase.name} {size(max(held.totals[phase.first : end]))}" for phase, end in spans)
    return (
        f"Most is alive in {_phase_at(line, line.peak)}: {size(held.totals[line.peak])}, made of {parts}. "
        f"In the order of the step the phases reach: {most}."
    )
