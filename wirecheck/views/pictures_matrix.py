"""The pictures of a matrix, half a square each: verdicts, memory of a step, and how far apart token lengths are.

A model's name stands where its row and its column meet: its pairs are the cells to the left of it and those below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from wirecheck.matrix_records import Matrix, MatrixCell
from wirecheck.matrix_tally import Tally
from wirecheck.views.pictures import LINE, TEXT, WIDTH, Fill, Picture, Sheet, cut, sheet, width_of
from wirecheck.views.words import plural

MOST_MODELS = 40
"""More models are no picture that can be read; as many as a table of markdown bears."""
_MOST_TOLD = 12
"""Up to so many models each cell says its figure."""
_NAMES = 150
"""Units for the name of the last model, at the right of the square."""
_MOODS: Mapping[str, tuple[Fill, str, float]] = {
    "compatible": (Fill("wire-mid"), "compatible", 1.0),
    "unproven": (Fill("b-soft", "//"), "unproven", 1.0),
    "incompatible": (Fill("limit"), "incompatible", 0.5),
    "could-not-check": (Fill("rest-mid", "--"), "could not check", 0.7),
    "not-run": (Fill("rest-soft"), "not run", 0.3),
}
"""Outcome -> fill, words, share of its cell that a square fills."""
_STEPS = 5
_APART = (1.05, 1.15, 1.3, 1.5)
"""Bounds of the steps of token lengths: as a factor, the longer over the shorter."""


@dataclass(frozen=True)
class _Kind:
    """One entry of a legend, and all the cells drawn like it."""

    words: str
    fill: Fill
    share: float = 1.0
    """Of the cell's sides: what is more is darker, and larger too."""


@dataclass(frozen=True)
class _Map:
    """What one picture shows of the cells."""

    name: str
    title: str
    kinds: Sequence[_Kind]
    kind_of: Callable[[MatrixCell], int | None]
    """The number of a cell's kind; None: nothing is known of it."""
    figure: Callable[[MatrixCell], str]


def of_matrix(head: Matrix, tally: Tally) -> tuple[Picture, ...]:
    """Verdicts, and memory and token lengths where they were found; none where the models are too many, or just one."""
    if not 1 < len(head.models) <= MOST_MODELS or not tally.grid:
        return ()
    cells = [cell for cell in tally.grid.values() if cell.a != cell.b]
    maps = (_verdicts(), _memory(tally.memory), _lengths())
    made = (_drawn(head, cells, one) for one in maps if one is not None)
    return tuple(one for one in made if one is not None)


def _verdicts() -> _Map:
    order = list(_MOODS)
    kinds = [_Kind(words, fill, share) for fill, words, share in _MOODS.values()]
    return _Map("matrix-verdicts", "Verdicts", kinds, lambda cell: order.index(cell.outcome), lambda _: "")


def _ramp(words: Sequence[str]) -> list[_Kind]:
    shares = (0.4, 0.55, 0.7, 0.85, 1.0)
    return [_Kind(said, Fill(f"heat-{n}"), shares[n]) for n, said in enumerate(words)]


def _memory(span: tuple[int, int] | None) -> _Map | None:
    """By ratios: among models of 1 and of 600 GB a scale of differences would show two steps."""
    if span is None or span[0] <= 0:
        return None
    least, most = span
    factor = (most / least) ** (1 / _STEPS)
    bounds = [least * factor**n for n in range(1, _STEPS)]
    words = [f"{_gib(low)} to {_gib(high)} GiB" for low, high in zip([least, *bounds], [*bounds, most], strict=True)]
    if most == least:
        bounds, words = [], [f"{_gib(least)} GiB"]

    def kind_of(cell: MatrixCell) -> int | None:
        return None if cell.memory is None else sum(cell.memory > bound for bound in bounds)

    title = "Memory of one step, allocated"
    return _Map("matrix-memory", title, _ramp(words), kind_of, lambda cell: _gib(cell.memory or 0))


def _gib(count: float) -> str:
    return f"{count / 2**30:.3g}" if count < 1000 * 2**30 else f"{count / 2**30:,.0f}"


def _lengths() -> _Map:
    words = [f"up to {_APART[0]} times", *(f"{x} to {y}" for x, y in pairwise(_APART))]
    words.append(f"more than {_APART[-1]}")

    def kind_of(cell: MatrixCell) -> int | None:
        apart = _apart(cell)
        return None if apart is None else sum(apart > bound for bound in _APART)

    title = "Token lengths of the same texts: the longer over the shorter"
    return _Map("matrix-tokens", title, _ramp(words), kind_of, lambda cell: f"{_apart(cell) or 0:.2f}")


def _apart(cell: MatrixCell) -> float | None:
    ratio = cell.token_length_ratio
    return max(ratio, 1 / ratio) if ratio is not None and ratio > 0 else None


# --- drawing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Square:
    """Where the cells are."""

    count: int

    told: bool = False
    """Whether a cell says its figure, above a bar; else it is a square."""

    @property
    def wide(self) -> float:
        return min(52.0, (WIDTH - _NAMES) / max(1, self.count - 1))

    @property
    def high(self) -> float:
        """A line of text at least, as a name stands in each row."""
        return 38.0 if self.told else 26.0 if self.count <= _MOST_TOLD else float(TEXT + 2)

    def place(self, row: int, column: int, share: float) -> tuple[float, float, float, float]:
        """Left, top, width and height of what a cell shows; row > column."""
        left, top = column * self.wide, row * self.high
        if self.told:
            return left + 3, top + LINE, (self.wide - 6) * share, self.high - LINE - 4
        wide, high = (self.wide - 1) * share, (self.high - 1) * share
        return left + (self.wide - wide) / 2, top + (self.high - high) / 2, wide, high


def _drawn(head: Matrix, cells: Iterable[MatrixCell], shown: _Map) -> Picture | None:
    number = {model.name: n for n, model in enumerate(head.models)}
    groups: dict[int, list[MatrixCell]] = {}
    for cell in cells:
        kind = shown.kind_of(cell)
        if kind is not None and cell.a in number and cell.b in number:
            groups.setdefault(kind, []).append(cell)
    if not groups:
        return None
    told = len(head.models) <= _MOST_TOLD and any(shown.figure(cell) for own in groups.values() for cell in own)
    square = _Square(len(head.models), told)
    kinds = sorted(groups)
    foot = square.high * square.count + 8
    with sheet(shown.name, foot + LINE * len(kinds)) as drawn:
        for kind in kinds:
            places = []
            for cell in groups[kind]:
                column, row = sorted((number[cell.a], number[cell.b]))
                places.append(square.place(row, column, shown.kinds[kind].share))
                _figure(drawn, square, row, column, shown.figure(cell))
            _cells(drawn, places, shown.kinds[kind], len(groups[kind]))
        for n, model in enumerate(head.models):
            left = n * square.wide + 5
            drawn.text(left, n * square.high + square.high / 2 + 5, cut(_short(model.name), WIDTH - left))
        _legend(drawn, [(shown.kinds[kind], len(groups[kind])) for kind in kinds], foot)
        return drawn.finish(shown.title, _told(head, shown, groups))


def _short(name: str) -> str:
    """Without the owner, where the name of a folder begins with one: models are told apart by their ends."""
    return name.rpartition("__")[2] or name


def _cells(drawn: Sheet, places: Sequence[tuple[float, float, float, float]], kind: _Kind, count: int) -> None:
    """All squares of one kind as one path: a grid has hundreds."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)] for x, y, w, h in places]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    whole = Path([corner for one in corners for corner in one], codes * len(corners))
    style = kind.fill.style() | {"linewidth": 0}
    drawn.tag(drawn.page.add_patch(PathPatch(whole, **style)), kind=kind.words, pairs=count)


def _figure(drawn: Sheet, square: _Square, row: int, column: int, words: str) -> None:
    if square.told and words:
        drawn.text(column * square.wide + 3, row * square.high + TEXT + 2, words)


def _legend(drawn: Sheet, kinds: Sequence[tuple[_Kind, int]], top: float) -> None:
    right = 32 + max(width_of(kind.words) for kind, _ in kinds)
    right += max(width_of(plural(count, "pair")) for _, count in kinds)
    for row, (kind, count) in enumerate(kinds):
        side, y = 13 * kind.share, top + row * LINE
        drawn.rectangle(7 - side / 2, y + 9.5 - side / 2, side, side, kind.fill)
        drawn.text(20, y + 15, kind.words)
        drawn.text(right, y + 15, plural(count, "pair"), tone="mute", anchor="right")


def _told(head: Matrix, shown: _Map, groups: Mapping[int, Sequence[MatrixCell]]) -> str:
    most = sorted(groups, key=lambda kind: (-len(groups[kind]), kind))
    counts = ", ".join(f"{shown.kinds[kind].words} {plural(len(groups[kind]), 'pair')}" for kind in most)
    names = ", ".join(model.name for model in head.models)
    said = f"{shown.title}, {plural(len(head.models), 'model')}: {counts}."
    cells = [cell for kind in groups for cell in groups[kind] if shown.figure(cell)]
    if cells and len(head.models) <= _MOST_TOLD:
        ranked = sorted(cells, key=lambda cell: (-float(shown.figure(cell).replace(",", "")), cell.a, cell.b))
        said += f" {', '.join(f'{cell.a} + {cell.b} {shown.figure(cell)}' for cell in ranked)}."
    return f"{said} The models: {names}."
