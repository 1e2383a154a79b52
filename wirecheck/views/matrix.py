"""A matrix as markdown, as a page with a grid, as CSV and as JSON Lines, and as a terminal's lines."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from wirecheck.matrix_records import Matrix, MatrixCell
from wirecheck.matrix_tally import MOST_GRID, Tally
from wirecheck.views import html, templates, words
from wirecheck.views.faces import MARKDOWN, SPARSE, Face, PageFace
from wirecheck.views.words import ABSENT, plural, visible

MOST_COLUMNS = 40
"""More models are no table in markdown."""
_GRID = "grid"
_LETTER = {"compatible": "C", "unproven": "U", "could-not-check": "!", "not-run": "-"}
_MOOD = {"compatible": "c", "unproven": "u", "not-run": "n", "could-not-check": "n", "incompatible": "x"}
_SHADES = 6
"""Steps from the least memory to the most."""
MOST_MODELS = 200
"""Rows of the table of models; all of them are in the JSON."""
_MOST_TITLE = 150
"""Characters of what a square says where it is pointed at."""
MOST_TITLES = 180_000
"""Characters of all of them: a grid with more has none, so that a page stays below 400 KB."""
_MOST_CLAIM = 160
"""Characters of the claim that a row of the table of causes gives as its example."""
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
    """One self-contained page: a grid of verdicts and memory, and all that the markdown says.

    Below 400 KB: MOST_GRID models have a grid, and a grid has no more than MOST_TITLES characters to point at.
    """
    from wirecheck.views.pictures_matrix import of_matrix

    has_grid = len(head.models) <= MOST_GRID
    face = PageFace(of_matrix(head, tally))
    body = _markdown(head, tally, links or {}, words.mark(_GRID) if has_grid else _too_many(head), face)
    pieces = face.pieces | ({_GRID: _grid(head, tally, links or {})} if has_grid else {})
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
    """On one line, whatever it holds. A spreadsheet takes a text that begins like this for a formula."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


# --- markdown ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    name: str
    cells: tuple[str, ...]


def _markdown(head: Matrix, tally: Tally, links: Links, instead: str | None, face: Face = MARKDOWN) -> str:
    """`instead` is what stands in place of the table of every pair; None: the table."""
    best = tally.best
    order = sorted(tally.causes.items(), key=lambda one: (-one[1], one[0]))
    causes = [(code, on, n, _short(tally.claims[code, on])) for (code, on), n in order]
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
    text = templates.environment().get_template("matrix.md.j2").render(matrix=head, face=face, **me)
    return SPARSE.sub("\n\n", text)


def _short(claim: str) -> str:
    return claim if len(claim) <= _MOST_CLAIM else f"{claim[:_MOST_CLAIM]}…"


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
    """One pair in the grid; the diagonal, and a pair that was not asked for, are blank."""

    names: str = ""
    text: str = ""
    mood: str = ""
    why: str = ""
    title: str = ""
    memory: str = ""
    heat: int = 0
    link: str | None = None


def _grid(head: Matrix, tally: Tally, links: Links) -> str:
    rows = [
        (one.name, [_square(tally, links, frozenset((one.name, other.name))) for other in head.models])
        for one in head.models
    ]
    told = [(name, [replace(one, title=_title(one)) for one in squares]) for name, squares in rows]
    if sum(len(one.title) for _, squares in told for one in squares) <= MOST_TITLES:
        rows = told
    least, most = tally.memory or (0, 0)
    me = {"has_memory": tally.memory is not None, "least": least, "most": most, "has_links": bool(links)}
    me["has_causes"] = bool(tally.causes)
    names = [model.name for model in head.models]
    return templates.environment().get_template("matrix-grid.html.j2").render(rows=rows, names=names, **me)


def _square(tally: Tally, links: Links, pair: frozenset[str]) -> _Square:
    cell = tally.grid.get(pair)
    if cell is None:
        return _Square()
    more = len({cause.code for cause in cell.causes}) - 1
    text = f"{mark(cell)} +{more}" if cell.outcome == "incompatible" and more > 0 else mark(cell)
    has_memory = cell.memory is not None and tally.memory is not None
    return _Square(
        names=f"{cell.a} + {cell.b}",
        text=text,
        mood=_MOOD[cell.outcome],
        why="; ".join(cell.why),
        memory=f"{cell.memory / 1e9:.1f}" if cell.memory is not None else "",
        heat=_heat(cell.memory, tally.memory) if has_memory else 0,
        link=links.get((cell.a, cell.b)),
    )


def _title(square: _Square) -> str:
    """What is said where a square is pointed at; the page says all that decides without it too."""
    return words.visible(f"{square.names}: {square.why}")[:_MOST_TITLE] if square.why else ""


def _heat(memory: int | None, span: tuple[int, int] | None) -> int:
    """How dark: 0 for the least memory of all pairs to 5 for the most.

    By ratios: among models of 1 and of 600 GB a scale of differences would show two colours.
    """
    if not memory or span is None or not span[0] or span[1] <= span[0]:
        return 0
    return round(math.log(memory / span[0]) / math.log(span[1] / span[0]) * (_SHADES - 1))
