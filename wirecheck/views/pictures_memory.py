"""What the pictures of memory share: how a part is filled, what is held, and the lines of the GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from wirecheck.schema import Fit, MemoryEstimate, MemoryTimeline, TimelinePart
from wirecheck.views.pictures import Entry, Fill, cut, size
from wirecheck.views.words import visible

_SMALL = 0.01
"""Parts that never reach this share of the peak are drawn as one."""
_MOST_PARTS = 12
"""Parts that are drawn each by itself, the largest of them."""
_MOST_PHASES = 24
"""Phases with a bar of their own, the fullest of them: a step has some ten."""
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
    """What a process can have of each GPU that was named, the least first.

    Several GPUs have no line: the bars are of a step on one, and what each of several holds is another step's.
    """
    found = []
    for fit in memory.fits:
        usable = _usable(fit, memory.process_bytes)
        if fit.count == 1 and usable is not None and usable > 0:
            found.append(Limit(visible(fit.gpu), usable))
    return tuple(sorted(dict.fromkeys(found), key=lambda one: (one.bytes, one.name)))


def _usable(fit: Fit, process: int | None) -> int | None:
    """Of one GPU; told from what is left over in a result from before it was kept."""
    if fit.usable_bytes is not None:
        return fit.usable_bytes
    return fit.free_bytes + process if process is not None else None


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
        found = Held(("the peak",), by_name((part.name, (part.bytes,)) for part in memory.parts))
    else:
        totals, fullest = line.totals, line.fullest()
        ranked = sorted(range(len(fullest)), key=lambda number: (-totals[fullest[number]], number))
        shown = sorted(ranked[:_MOST_PHASES])
        names = tuple(line.phases[number].name for number in shown)
        rows = ((part.name, tuple(part.bytes[fullest[n]] for n in shown)) for part in stacked(line))
        found = Held(names, by_name(rows))
    return found if found.parts and max(found.totals) > 0 else None


def by_name(rows: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    """Parts of one name as one, in the order in which they come."""
    found: dict[str, tuple[int, ...]] = {}
    for name, held in rows:
        found[name] = tuple(map(sum, zip(found[name], held, strict=True))) if name in found else held
    return found


def stacked(line: MemoryTimeline) -> list[TimelinePart]:
    """Parts from the lowest up: what stays, the largest first, and above it what comes and goes."""
    return sorted(line.parts, key=lambda part: (max(part.bytes) > min(part.bytes), -min(part.bytes), part.name))


def made_of(held: Held, row: int) -> list[Entry]:
    """The entries of a legend: the parts of one row, the longest first."""
    ranked = sorted(held.parts, key=lambda part: -held.parts[part][row])
    return [(fill_of(part), part, size(held.parts[part][row]) if held.parts[part][row] else "none") for part in ranked]
