"""The pictures of memory: what each phase holds at its fullest, and what is alive over the step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from wirecheck.schema import Fit, MemoryEstimate, MemoryTimeline, TimelinePart
from wirecheck.views.pictures import LINE, TEXT, WIDTH, Entry, Fill, Picture, Sheet, cut, sheet, size, width_of
from wirecheck.views.words import visible

_SMALL = 0.01
"""Parts that never reach this share of the peak are drawn as one."""
_MOST_PARTS = 12
"""Parts that are drawn each by itself, the largest of them."""
_MOST_PHASES = 24
"""Phases with a bar of their own, the fullest of them: a step has some ten."""
_FARTHEST = 6
"""A GPU's line farther out than so many fullest phases would make the bars too small to read."""
_SPILL = "smaller parts"
_KINDS: tuple[tuple[str, str, str | None], ...] = (
    ("weights", "mid", None),
    ("trained parameters", "mid", None),
    ("encoder and adapters", "mid", None),
    ("sentence encoder", "mid", "//"),
    ("activations", "strong", None),
    ("layer activations", "strong", None),
    ("encoder and adapter activations", "strong", None),
    ("logits and loss", "soft", "//"),
    ("waiting losses", "soft", "\\\\"),
    ("gradients", "strong", "\\\\"),
    ("optimizer states", "soft", "xx"),
    ("recomputed", "soft", "||"),
    ("masks", "soft", "++"),
    ("embeddings", "soft", None),
    ("workspaces", "mid", "--"),
)
"""Beginning of a part's name -> tone and hatch; the longest beginning that fits."""


def fill_of(part: str) -> Fill:
    """The fill of a part: the colour tells whose it is (A, B, the wire), tone and hatch what it is."""
    begins = [kind for kind in _KINDS if part.startswith(kind[0])]
    kind = max(begins, key=lambda one: len(one[0]), default=("", "soft", "-"))
    side = part[-1] if part.endswith((" a", " b")) else "rest" if part.endswith(_SPILL) else "wire"
    side = "rest" if part.startswith("workspaces") else side
    return Fill(f"{side}-{kind[1]}", kind[2] if not part.endswith(_SPILL) else None)


@dataclass(frozen=True)
class Limit:
    """The line of one GPU of which it is known what a process can have."""

    name: str
    bytes: int

    @property
    def words(self) -> str:
        """`H100-80GB 79.11 GiB`."""
        return f"{cut(self.name, 220)} {size(self.bytes)}"


def limits(memory: MemoryEstimate) -> tuple[Limit, ...]:
    """What a process can have of each GPU that was named, the least first; of several GPUs, of all together."""
    found = []
    for fit in memory.fits:
        usable = _usable(fit, memory.process_bytes)
        if usable is not None and usable > 0:
            name = fit.gpu if fit.count == 1 else f"{fit.count} x {fit.gpu}"
            found.append(Limit(visible(name), usable * fit.count))
    return tuple(sorted(dict.fromkeys(found), key=lambda one: (one.bytes, one.name)))


def _usable(fit: Fit, process: int | None) -> int | None:
    """Of one GPU; a result from before it was kept says it for a single GPU only: the rest is per GPU and unknown."""
    if fit.usable_bytes is not None:
        return fit.usable_bytes
    return fit.free_bytes + process if fit.count == 1 and process is not None else None


@dataclass(frozen=True)
class Held:
    """What is alive in the rows of a picture: phases at their fullest moments, or moments."""

    rows: tuple[str, ...]
    parts: Mapping[str, tuple[int, ...]]
    """Part -> bytes in each row, as they are stacked."""

    @cached_property
    def totals(self) -> tuple[int, ...]:
        """All bytes of each row."""
        return tuple(map(sum, zip(*self.parts.values(), strict=True)))

    @property
    def fullest(self) -> int:
        """The number of the first row that holds most."""
        return self.totals.index(max(self.totals))

    def few(self) -> Held:
        """The same with the small parts as one."""
        most = max(self.totals)
        ranked = sorted(self.parts, key=lambda part: -max(self.parts[part]))
        small = {part for part in ranked if max(self.parts[part]) < _SMALL * most} | set(ranked[_MOST_PARTS:])
        kept = {part: held for part, held in self.parts.items() if part not in small}
        if len(small) < 2:  # noqa: PLR2004 - one small part is told by its own name
            return self
        rest = tuple(map(sum, zip(*(self.parts[part] for part in small), strict=True)))
        return Held(self.rows, {**kept, f"{len(small)} {_SPILL}": rest})


def of_phases(memory: MemoryEstimate) -> Held | None:
    """Each phase at its fullest moment, or the peak where there is no timeline; None where nothing is held."""
    line = memory.timeline
    if line is None:
        found = Held(("the peak",), _by_name((part.name, (part.bytes,)) for part in memory.parts))
    else:
        totals = line.totals
        spans = [range(p.first, end) for p, end in zip(line.phases, line.ends(), strict=True)]
        fullest = [max(span, key=lambda moment: (totals[moment], -moment)) for span in spans]
        ranked = sorted(range(len(fullest)), key=lambda number: (-totals[fullest[number]], number))
        shown = sorted(ranked[:_MOST_PHASES])
        names = tuple(line.phases[number].name for number in shown)
        rows = ((part.name, tuple(part.bytes[fullest[n]] for n in shown)) for part in _stacked(line))
        found = Held(names, _by_name(rows))
    return found if found.parts and max(found.totals) > 0 else None


def _by_name(rows: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    """Parts of one name as one, in the order in which they come."""
    found: dict[str, tuple[int, ...]] = {}
    for name, held in rows:
        found[name] = tuple(map(sum, zip(found[name], held, strict=True))) if name in found else held
    return found


def _stacked(line: MemoryTimeline) -> list[TimelinePart]:
    """Parts from the lowest up: what stays, the largest first, and above it what comes and goes."""
    return sorted(line.parts, key=lambda part: (max(part.bytes) > min(part.bytes), -min(part.bytes), part.name))


# --- phases ------------------------------------------------------------------------------------------------------

_BAR, _ROW = 16, 46
"""Units of a bar's height, and from one bar to the next."""


def phases(memory: MemoryEstimate) -> Picture | None:
    """Each phase as a stacked bar, and the line of each GPU that was named; None where there is nothing to draw."""
    whole = of_phases(memory)
    if whole is None:
        return None
    held, lines = whole.few(), limits(memory)
    most = max(*held.totals, memory.process_bytes or 0)
    near = [one for one in lines if one.bytes <= _FARTHEST * most]
    far = [one for one in lines if one.bytes > _FARTHEST * most]
    scale = (WIDTH - 2) / max([most, *(one.bytes for one in near)])
    head = LINE * len(lines)
    foot = head + _ROW * len(held.rows) + 8
    entries = _made_of(held, held.fullest)
    beside = (memory.process_bytes or 0) - held.totals[held.fullest]
    if beside > 0:
        entries.append((None, "beside them in the process", size(beside)))
    with sheet("memory-phases", foot + LINE * (len(entries) + 2)) as drawn:
        for number in range(len(held.rows)):
            _bar(drawn, held, number, head + number * _ROW + LINE + 4, scale)
        if beside > 0:
            _process(drawn, held, memory.process_bytes or 0, head + held.fullest * _ROW + LINE + 4, scale)
        _limits(drawn, near, far, foot - 10, scale)
        for number, name in enumerate(held.rows):
            _named(drawn, cut(name, 250), held.totals[number], head + number * _ROW + LINE)
        drawn.line([0.5, 0.5], [head + LINE, foot - 10], "mute")
        _legend(drawn, held, foot, entries)
        return drawn.finish(_TITLES["memory-phases"], _told(whole, memory, lines))


_TITLES = {
    "memory-phases": "What each phase of the step holds at its fullest",
    "memory-timeline": "What is alive over the step",
}


def _bar(drawn: Sheet, held: Held, row: int, top: float, scale: float) -> None:
    x = 1.0
    for part, counts in held.parts.items():
        if counts[row]:
            told = {"part": part, "phase": held.rows[row], "bytes": counts[row]}
            drawn.rectangle(x, top, counts[row] * scale, _BAR, fill_of(part), **told)
        x += counts[row] * scale


def _process(drawn: Sheet, held: Held, process: int, top: float, scale: float) -> None:
    """What the process holds beside its tensors, hollow: it is the process that a GPU has to hold."""
    held_at = held.totals[held.fullest]
    drawn.tag(drawn.frame(1 + held_at * scale, top + 0.5, (process - held_at) * scale, _BAR - 1), process=process)


def _named(drawn: Sheet, name: str, total: int, y: float) -> None:
    drawn.text(0, y, name, backed=True)
    drawn.text(width_of(name) + 8, y, size(total), tone="mute", backed=True)


def _limits(drawn: Sheet, near: Sequence[Limit], far: Sequence[Limit], foot: float, scale: float) -> None:
    """A row of text for each GPU, its line below it; one that is far out is told at the right, without a line."""
    for row, limit in enumerate(near):
        x, y = 1 + limit.bytes * scale, row * LINE
        drawn.tag(drawn.line([x, x], [y + 2, foot], "limit", 2.0), gpu=limit.name, bytes=limit.bytes)
    for row, limit in enumerate(near):
        x, y = 1 + limit.bytes * scale, row * LINE + TEXT
        left = x + 6 + width_of(limit.words) <= WIDTH
        drawn.text(
            x + 6 if left else x - 6, y, limit.words, tone="limit", anchor="left" if left else "right", backed=True
        )
    for row, limit in enumerate(far, len(near)):
        drawn.text(WIDTH, row * LINE + TEXT, f"{limit.words} →", tone="limit", anchor="right", backed=True)


def _made_of(held: Held, row: int) -> list[Entry]:
    """The entries of a legend: the parts of one row, the longest first."""
    ranked = sorted(held.parts, key=lambda part: -held.parts[part][row])
    return [(fill_of(part), part, size(held.parts[part][row]) if held.parts[part][row] else "none") for part in ranked]


def _legend(drawn: Sheet, held: Held, top: float, entries: Sequence[Entry]) -> None:
    row = held.fullest
    where = "At the peak" if held.rows[row] == "the peak" else f"At the peak, in {cut(held.rows[row], 200)}"
    drawn.text(0, top + LINE - 4, f"{where}: {size(held.totals[row])}", bold=True)
    drawn.legend(top + LINE + 2, entries)


def _told(held: Held, memory: MemoryEstimate, lines: Sequence[Limit]) -> str:
    """The same figures in words."""
    ranked = sorted(range(len(held.rows)), key=lambda row: -held.totals[row])
    made = sorted(held.parts, key=lambda part: -held.parts[part][ranked[0]])
    parts = ", ".join(f"{part} {size(held.parts[part][ranked[0]])}" for part in made if held.parts[part][ranked[0]])
    said = ""
    if memory.timeline is not None:
        rows = ", ".join(f"{held.rows[row]} {size(held.totals[row])}" for row in ranked)
        said = f"At its fullest each phase of the step holds: {rows}. "
    said += f"The peak, {size(held.totals[ranked[0]])}, is made of {parts}."
    if memory.process_bytes:
        said += f" The process then holds {size(memory.process_bytes)}."
    if lines:
        said += f" A process can have {', '.join(f'{size(one.bytes)} of {one.name}' for one in lines)}."
    return said


# --- over time ---------------------------------------------------------------------------------------------------

_LEFT, _HIGH, _TOP = 34, 240, 26
"""Of the plot: its left edge, its height, its upper edge."""
_PHASE_ROWS = 4
"""Rows of text for the names of the phases: narrow ones are told one below the other."""


def over_time(line: MemoryTimeline) -> Picture | None:
    """Live memory over the step, with the peak and what it is made of; None where nothing is ever alive."""
    count = len(line.parts[0].bytes)
    whole = Held(tuple(map(str, range(count))), _by_name((part.name, part.bytes) for part in _stacked(line)))
    if max(whole.totals) == 0:
        return None
    held = whole.few()
    placed = _phase_names(line)
    foot = _TOP + _HIGH + 10 + LINE * (1 + max((row for _, _, row in placed), default=0))
    entries = _made_of(held, line.peak)
    with sheet("memory-timeline", foot + LINE * (len(entries) + 2)) as drawn:
        plot = _Plot(drawn, count, held.totals[line.peak])
        plot.grid()
        plot.areas(held, line.peak)
        plot.peak(line)
        plot.phases(line, placed)
        drawn.text(0, foot + LINE - 4, f"At the peak: {size(held.totals[line.peak])}", bold=True)
        drawn.legend(foot + LINE + 2, entries)
        return drawn.finish(_TITLES["memory-timeline"], _told_over_time(line, whole))


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
        wide = width_of(words) / 2
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
