"""The picture of what each phase of the step holds at its fullest, against what a process can have of each GPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wirecheck.schema import MemoryEstimate
from wirecheck.views.pictures import LINE, TEXT, WIDTH, Entry, Picture, Sheet, cut, sheet, size, width_of
from wirecheck.views.pictures_memory import Held, Limit, fill_of, limits, made_of, of_phases

_FARTHEST = 6
"""A GPU's line farther out than so many fullest phases would make the bars too small to read."""
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
    entries = made_of(held, held.fullest)
    beside = (memory.process_bytes or 0) - held.totals[held.fullest]
    if beside > 0:
        entries.append((None, "beside them in the process", size(beside)))
    tops = [head + number * _ROW + LINE + 4 for number in range(len(held.rows))]
    with sheet("memory-phases", foot + LINE * (len(entries) + 2)) as drawn:
        for number, top in enumerate(tops):
            _bar(drawn, held, number, top, scale)
        if beside > 0:
            _process(drawn, held, memory.process_bytes or 0, tops[held.fullest], scale)
        _limits(drawn, near, far, tops, scale)
        for number, name in enumerate(held.rows):
            _named(drawn, cut(name, 250), held.totals[number], tops[number] - 5)
        _legend(drawn, held, foot, entries)
        return drawn.finish("What each phase of the step holds at its fullest", _told(whole, memory, lines))


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
    drawn.text(0, y, name)
    drawn.text(width_of(name) + 8, y, size(total), tone="mute")


def _broken(x: float, spans: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """A line downwards over those spans: a place that is no number lifts the pen."""
    return [x, x, math.nan] * len(spans), [y for start, end in spans for y in (start, end, math.nan)]


def _limits(drawn: Sheet, near: Sequence[Limit], far: Sequence[Limit], tops: Sequence[float], scale: float) -> None:
    """A row of text for each GPU, its line below it; one that is far out is told at the right, without a line."""
    for row, limit in enumerate(near):
        x, y = 1 + limit.bytes * scale, row * LINE
        # Broken where a phase has its name, so that no figure is struck through.
        spans = [(y + 2, tops[0] - LINE + 2), *((top - 3, top + _BAR + 3) for top in tops)]
        drawn.tag(drawn.line(*_broken(x, spans), "limit", 2.0), gpu=limit.name, bytes=limit.bytes)
    for row, limit in enumerate(near):
        x, y = 1 + limit.bytes * scale, row * LINE + TEXT
        left = x + 6 + width_of(limit.words) <= WIDTH
        drawn.text(
            x + 6 if left else x - 6, y, limit.words, tone="limit", anchor="left" if left else "right", backed=True
        )
    for row, limit in enumerate(far, len(near)):
        drawn.text(WIDTH, row * LINE + TEXT, f"{limit.words} →", tone="limit", anchor="right", backed=True)


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
