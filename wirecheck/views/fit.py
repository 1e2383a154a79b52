"""What `wirecheck fit` found, as markdown, as HTML, and as the sentences and cells that a terminal shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wirecheck.frontier_records import Frontier, FrontierRow, Largest, Placement, Way
from wirecheck.views import fit_curves, html, templates
from wirecheck.views.faces import Face, MarkdownFace, PageFace
from wirecheck.views.fit_curves import CurveTable
from wirecheck.views.story import bar
from wirecheck.views.words import ABSENT, human_bytes

Axis = Literal["batch", "context"]
AXES: tuple[Axis, ...] = ("batch", "context")
PLACED: dict[Placement, str] = {
    "one-gpu": "",
    "one-model-per-gpu": "one model per GPU",
    "split": "each model split over all",
}


def render(frontier: Frontier) -> str:
    """The frontier as GitHub-flavoured markdown: same input, same bytes."""
    return _written(frontier, MarkdownFace())


def render_html(frontier: Frontier) -> str:
    """The frontier as one self-contained page."""
    from wirecheck.views.pictures_frontier import of_frontier

    view, face = View(frontier), PageFace(of_frontier(frontier))
    mood = {0: "compatible", 1: "incompatible"}.get(exit_code(frontier), "unproven")
    return html.page(_written(frontier, face), title=view.title, mood=mood, pieces=face.pieces)


def _written(frontier: Frontier, face: Face) -> str:
    template = templates.environment().get_template("fit.md.j2")
    return template.render(frontier=frontier, view=View(frontier), face=face)


def exit_code(frontier: Frontier) -> int:
    """0: every row is answered and one holds the step; 1: none does; 3: something could not be traced."""
    if frontier.status != "finished" or any(row.why for row in frontier.rows):
        return 3
    return 0 if any(_held(row.batch) for row in frontier.rows) else 1


def _held(found: Largest | None) -> int:
    return 0 if found is None else found.fits


@dataclass(frozen=True)
class Line:
    """One GPU, or several in one placement: a cell for each way."""

    head: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Bar:
    """One bar of the chart."""

    head: str
    way: str
    drawn: str
    cell: str


@dataclass(frozen=True)
class View:
    """What the faces of a frontier tell."""

    frontier: Frontier

    @property
    def title(self) -> str:
        """The page's title."""
        return f"wirecheck fit: {self.frontier.a.name} + {self.frontier.b.name}"

    @property
    def step(self) -> str:
        """The step that was asked about."""
        train, wire = self.frontier.train, self.frontier.wire
        soft = wire.prefix_length
        return (
            f"wire {wire.name}, {soft} soft tokens, {train.context} of context, {train.answer} of answer, batch "
            f"{train.batch}, frozen models in {train.dtype}, {train.optimizer}"
        )

    @property
    def sentence(self) -> str:
        """The whole frontier in one sentence."""
        frontier = self.frontier
        pair = f"{frontier.a.name} + {frontier.b.name}"
        if frontier.status != "finished":
            return f"{pair}: the search was {frontier.status} and not finished."
        asked = frontier.train.batch
        plain = {self.head(row) for row in frontier.rows if row.way == "as-asked" and _held(row.batch) >= asked}
        some = {self.head(row) for row in frontier.rows if _held(row.batch) >= asked} - plain
        smaller = {self.head(row) for row in frontier.rows if _held(row.batch) > 0} - plain - some
        unknown = {self.head(row) for row in frontier.rows if row.why and row.batch is None}
        formula = any(row.batch is not None and row.batch.method == "formula" for row in frontier.rows)
        heads = list(dict.fromkeys(self.head(row) for row in frontier.rows))
        rest = set(heads) - plain - some - smaller - unknown
        groups = (
            (f"batch {asked} fits as asked on", plain),
            ("with other options on", some),
            ("a smaller batch on", smaller),
            ("nothing is shown to fit on", rest),
            ("not traced on", unknown - plain - some - smaller),
        )
        said = [f"{words} {', '.join(h for h in heads if h in held)}" for words, held in groups if held]
        return f"{pair}: {'by formula, ' if formula else ''}{'; '.join(said)}."

    @property
    def legend(self) -> str:
        """How to read a cell."""
        ranges = "Read 43 to 47 as: 43 fits, above 47 nothing does, and between them it is within the stated error."
        return f"{ranges} ≥ N: there is no more to ask for, and N fits." if self.ended else ranges

    @property
    def ways(self) -> tuple[str, ...]:
        """The heads of the columns."""
        return tuple(way.words for way in self._tried)

    @property
    def _tried(self) -> tuple[Way, ...]:
        """Ways that some row was tried in: models on GPUs of their own have no turns to take."""
        seen = {row.way for row in self.frontier.rows}
        return tuple(way for way in self.frontier.ways if way.name in seen)

    def lines(self, axis: Axis) -> tuple[Line, ...]:
        """The table of one axis: GPUs down, ways across."""
        found: dict[str, dict[str, str]] = {}
        for row in self.frontier.rows:
            found.setdefault(self.head(row), {})[row.way] = self.cell(row, axis)
        ways = [way.name for way in self._tried]
        return tuple(Line(head, tuple(cells.get(way, ABSENT) for way in ways)) for head, cells in found.items())

    def bars(self, axis: Axis) -> tuple[Bar, ...]:
        """The chart of one axis: a bar for each row, to the scale of the largest."""
        rows = [row for row in self.frontier.rows if getattr(row, axis) is not None]
        whole = max((_held(getattr(row, axis)) for row in rows), default=0)
        words = {way.name: way.words for way in self.frontier.ways}
        heads = [self.head(row) for row in rows]
        return tuple(
            Bar(
                head if n == 0 or heads[n - 1] != head else "",
                words[row.way],
                bar(_held(getattr(row, axis)), whole),
                self.cell(row, axis),
            )
            for n, (head, row) in enumerate(zip(heads, rows, strict=True))
        )

    def chart(self, axis: Axis) -> str:
        """The bars as lines of text."""
        bars = self.bars(axis)
        left, middle = (max((len(text) for text in column), default=0) for column in _columns(bars))
        return "\n".join(f"{one.head:<{left}}  {one.way:<{middle}}  {one.drawn} {one.cell}".rstrip() for one in bars)

    def cell(self, row: FrontierRow, axis: Axis) -> str:
        """`43`, `43 to 47`, `none`, `0 to 6`, `≥ 65,536`, or `not traced`."""
        return cell_of(getattr(row, axis))

    @property
    def curves(self) -> tuple[CurveTable, ...]:
        """The largest batch by context, a table for each way; none where it was not asked for."""
        return fit_curves.tables(self.frontier, cell_of)

    @property
    def details(self) -> tuple[tuple[str, ...], ...]:
        """(GPU, way, rows, process then, text tokens, process then, method) of every row that holds something."""
        words = {way.name: way.words for way in self.frontier.ways}
        return tuple(
            (self.head(row), words[row.way], *_at(row.batch), *_at(row.context), _how(row))
            for row in self.frontier.rows
            if _held(row.batch)
        )

    @property
    def untraced(self) -> tuple[tuple[str, str], ...]:
        """(GPUs and ways, reason) of the rows that were not traced, those of one reason together."""
        words = {way.name: way.words for way in self.frontier.ways}
        groups: dict[str, dict[str, list[str]]] = {}
        for row in self.frontier.rows:
            if row.why:
                groups.setdefault(row.why, {}).setdefault(self.head(row), []).append(words[row.way])
        every = {row.way for row in self.frontier.rows}
        whole = tuple(
            ("; ".join(h if len(ways) == len(every) else f"{h}: {' / '.join(ways)}" for h, ways in found.items()), why)
            for why, found in groups.items()
        )
        return whole + fit_curves.untraced(self.frontier, self.head)

    @property
    def ended(self) -> bool:
        """Whether an axis ended before the memory of a GPU did."""
        return any(
            found is not None and found.ended
            for row in self.frontier.rows
            for found in (row.batch, row.context, *(point.batch for point in row.curve))
        )

    @staticmethod
    def head(row: FrontierRow) -> str:
        """How tables and pictures name the GPUs of a row: `H200`, `2 x H200 (one model per GPU)`."""
        name = row.gpu if row.count == 1 else f"{row.count} x {row.gpu}"
        return f"{name} ({PLACED[row.placement]})" if PLACED[row.placement] else name


def _columns(bars: tuple[Bar, ...]) -> tuple[list[str], list[str]]:
    return [one.head for one in bars], [one.way for one in bars]


def _at(found: Largest | None) -> tuple[str, str]:
    if found is None or not found.fits:
        return ("none" if found else ABSENT), ABSENT
    least, most = found.least_bytes, found.most_bytes
    span = ABSENT if least is None or most is None else f"{least / 1e9:.1f} to {human_bytes(most)}"
    return f"{found.fits:,}", span


def _how(row: FrontierRow) -> str:
    methods = [found.method for found in (row.batch, row.context) if found is not None]
    return " / ".join(dict.fromkeys(methods))


def cell_of(found: Largest | None) -> str:
    """What a table says of an answer."""
    if found is None:
        return "not traced"
    if found.ended:
        return f"≥ {found.fits:,}"
    if found.fits == found.may_fit:
        return f"{found.fits:,}" if found.fits else "none"
    return f"{found.fits:,} to {found.may_fit:,}"
