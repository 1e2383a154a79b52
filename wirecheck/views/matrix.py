"""A matrix as markdown, as a page with a grid and a heat map, as CSV and as JSON Lines, and as a terminal's lines."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wirecheck.matrix_records import Matrix, MatrixCell
from wirecheck.matrix_tally import MOST_GRID, Tally
from wirecheck.views import html, templates, words
from wirecheck.views.words import ABSENT, human_bytes, plural

MOST_COLUMNS = 40
"""More models are no table in markdown."""
_GRID = "grid"
_LETTER = {"compatible": "C", "unproven": "U", "could-not-check": "!", "not-run": "-"}
_HEAT = ("#e8f4ea", "#cfe8c6", "#f6e8a8", "#f3cf8e", "#eda77a", "#e0786a")
"""From the least memory to the most."""
MOST_MODELS = 200
"""Rows of the table of models; all of them are in the JSON."""
_MOST_TITLE = 240
"""Characters of what a square says where it is pointed at."""
MOST_CAUSES = 60
"""Rows of the table of causes."""
COLUMNS = (
    *("a", "b", "outcome", "strength", "warnings", "memory_bytes", "token_length_ratio", "vocabulary_shared"),
    *("causes", "why", "seconds", "kept"),
)
Links = Mapping[tuple[str, str], str]
"""Pair -> where its own report lies, as seen from the matrix's."""


def sentence(head: Matrix, tally: Tally) -> str:
    """What it comes to, in one sentence."""
    told = ", ".join(f"{n:,} {outcome.replace('-', ' ')}" for outcome, n in tally.outcomes.most_common())
    lost = sum(model.why is not None for model in head.models)
    more = f" {plural(lost, 'model')} could not be read." if lost else ""
    unfinished = "" if head.status == "finished" else " Interrupted: not every pair is there."
    unchanged = f" {tally.kept:,} unchanged since an earlier run." if tally.kept else ""
    start = f"{plural(len(head.models), 'model')}, {plural(tally.count, 'pair')}: {told or 'none'}."
    return f"{start}{more}{unchanged}{unfinished}"


def render(head: Matrix, tally: Tally, links: Links | None = None) -> str:
    """The matrix as GitHub-flavoured markdown: same input, same bytes. Of `head` the cells are not read."""
    return _markdown(head, tally, links or {}, None if len(head.models) <= MOST_COLUMNS else _too_many(head))


def render_html(head: Matrix, tally: Tally, links: Links | None = None) -> str:
    """One self-contained page: a grid of verdicts, a heat map of memory, and all that the markdown says."""
    has_grid = len(head.models) <= MOST_GRID
    body = _markdown(head, tally, links or {}, words.mark(_GRID) if has_grid else _too_many(head))
    pieces = {_GRID: _grid(head, tally, links or {})} if has_grid else {}
    title = f"wirecheck matrix: {plural(len(head.models), 'model')}"
    return html.page(body, title=title, mood="report", pieces=pieces)


def row(cell: MatrixCell) -> list[object]:
    """A cell as COLUMNS, as data."""
    causes = "; ".join(f"{one.code} ({one.subject})" for one in cell.causes)
    figures = [cell.memory, cell.token_length_ratio, cell.vocabulary_shared]
    strength = None if cell.strength is None else str(cell.strength)
    named = [cell.a, cell.b, cell.outcome, strength, cell.warnings]
    return [*named, *figures, causes, "; ".join(cell.why), cell.seconds, cell.kept]


def csv_line(values: Sequence[object]) -> str:
    """One line of a CSV file."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([_harmless(one) for one in values])
    return out.getvalue()


def _harmless(value: object) -> object:
    """A spreadsheet takes a text that begins like this for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value


# --- markdown ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    name: str
    cells: tuple[str, ...]


def _markdown(head: Matrix, tally: Tally, links: Links, instead: str | None) -> str:
    """`instead` is what stands in place of the table of every pair; None: the table."""
    best = tally.best
    causes = [(code, on, n) for (code, on), n in sorted(tally.causes.items(), key=lambda one: (-one[1], one[0]))]
    me = {
        "sentence": sentence(head, tally),
        "count": tally.count,
        "best": [(cell, links.get((cell.a, cell.b))) for cell in best],
        "rest": tally.count - len(best),
        "names": [model.name for model in head.models],
        "grid": list(_rows(head, tally)) if instead is None else [],
        "instead": instead,
        "causes": causes[:MOST_CAUSES],
        "more_causes": max(0, len(causes) - MOST_CAUSES),
        "models": head.models[:MOST_MODELS],
        "more_models": max(0, len(head.models) - MOST_MODELS),
        "absent": ABSENT,
    }
    return templates.environment().get_template("matrix.md.j2").render(matrix=head, **me)


def _too_many(head: Matrix) -> str:
    return f"{len(head.models)} models are more than a table bears: see the files with a row for each pair."


def _rows(head: Matrix, tally: Tally) -> Iterator[_Row]:
    for one in head.models:
        marks = tuple(mark(tally.grid.get(frozenset((one.name, other.name)))) for other in head.models)
        yield _Row(one.name, marks)


def mark(cell: MatrixCell | None) -> str:
    """What a cell shows: a letter, and of an incompatible pair the first code."""
    if cell is None:
        return ""
    if cell.outcome == "incompatible":
        return f"X {cell.causes[0].code}" if cell.causes else "X"
    return _LETTER[cell.outcome]


# --- the page ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Square:
    text: str
    title: str
    mood: str
    colour: str = ""
    link: str | None = None


def _grid(head: Matrix, tally: Tally, links: Links) -> str:
    def rows(heat: bool) -> list[tuple[str, list[_Square]]]:
        made = []
        for one in head.models:
            squares = []
            for other in head.models:
                cell = tally.grid.get(frozenset((one.name, other.name)))
                link = None if cell is None else links.get((cell.a, cell.b))
                names = f"{one.name} + {other.name}"
                squares.append(_heat(names, cell, tally.memory, link) if heat else _square(names, cell, link))
            made.append((one.name, squares))
        return made

    grids = [("Verdicts", rows(heat=False))]
    if tally.memory is not None:
        grids.append(("Memory of one step, GB allocated", rows(heat=True)))
    names = [model.name for model in head.models]
    return templates.environment().get_template("matrix-grid.html.j2").render(grids=grids, names=names)


def _square(names: str, cell: MatrixCell | None, link: str | None) -> _Square:
    if cell is None:
        return _Square("", f"{names}: not asked", "self")
    why = "" if cell.outcome == "compatible" else f": {'; '.join(cell.why)}"
    return _Square(mark(cell), f"{names}: {cell.outcome}{why}"[:_MOST_TITLE], cell.outcome, link=link)


def _heat(names: str, cell: MatrixCell | None, span: tuple[int, int] | None, link: str | None) -> _Square:
    if cell is None or cell.memory is None or span is None:
        return _Square("", f"{names}: not traced", "self")
    # By ratios: among models of 1 and of 600 GB a scale of differences would show two colours.
    least, most = span
    wide = math.log(most / least) if least and most > least else 0.0
    step = int(math.log(cell.memory / least) / wide * (len(_HEAT) - 1) + 0.5) if wide else 0
    return _Square(f"{cell.memory / 1e9:.1f}", f"{names}: {human_bytes(cell.memory)}", "self", _HEAT[step], link)
