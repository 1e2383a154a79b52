"""A matrix as markdown, as a page with a grid and a heat map, as CSV and as JSON Lines, and as a terminal's lines."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from wirecheck.matrix_records import Matrix, MatrixCell, MatrixModel
from wirecheck.views import html, templates
from wirecheck.views.words import ABSENT, human_bytes, plural

MOST_COLUMNS = 30
"""More models are no table in markdown."""
MOST_GRID = 120
"""More models are no grid in a browser either."""
BEST = 25
_MARK = "THE-GRID-STANDS-HERE"
_LETTER = {"compatible": "C", "unproven": "U", "could-not-check": "!", "not-run": "-"}
_HEAT = ("#e8f4ea", "#cfe8c6", "#f6e8a8", "#f3cf8e", "#eda77a", "#e0786a")
"""From the least memory to the most."""
COLUMNS = (
    *("a", "b", "outcome", "strength", "warnings", "memory_bytes", "token_length_ratio", "vocabulary_shared"),
    *("causes", "why", "seconds", "kept"),
)


def sentence(found: Matrix) -> str:
    """What it comes to, in one sentence."""
    counts = Counter(cell.outcome for cell in found.cells)
    told = ", ".join(f"{n} {outcome.replace('-', ' ')}" for outcome, n in counts.most_common())
    lost = sum(model.why is not None for model in found.models)
    more = f" {plural(lost, 'model')} could not be read." if lost else ""
    unfinished = "" if found.status == "finished" else " Interrupted: not every pair is there."
    kept = sum(cell.kept for cell in found.cells)
    unchanged = f" {kept} unchanged since an earlier run." if kept else ""
    head = f"{plural(len(found.models), 'model')}, {plural(len(found.cells), 'pair')}: {told or 'none'}."
    return f"{head}{more}{unchanged}{unfinished}"


def render(found: Matrix, best: list[MatrixCell]) -> str:
    """The matrix as GitHub-flavoured markdown: same input, same bytes."""
    return _markdown(found, best, None if len(found.models) <= MOST_COLUMNS else _too_many(found))


def render_html(found: Matrix, best: list[MatrixCell]) -> str:
    """One self-contained page: a grid of verdicts, a heat map of memory, and all that the markdown says."""
    body = _markdown(found, best, _MARK if len(found.models) <= MOST_GRID else _too_many(found))
    page = html.page(body, title=f"wirecheck matrix: {plural(len(found.models), 'model')}", mood="report")
    return page.replace(f"<p>{_MARK}</p>", _grid(found))


def render_csv(found: Matrix, _best: list[MatrixCell]) -> str:
    """A row for each pair."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for cell in found.cells:
        causes = "; ".join(f"{one.code} ({one.subject})" for one in cell.causes)
        figures = [cell.memory, cell.token_length_ratio, cell.vocabulary_shared]
        row = [cell.a, cell.b, cell.outcome, cell.strength, cell.warnings, *figures]
        writer.writerow([_harmless(one) for one in [*row, causes, "; ".join(cell.why), cell.seconds, cell.kept]])
    return out.getvalue()


def render_lines(found: Matrix, _best: list[MatrixCell]) -> str:
    """JSON Lines: a record for each pair."""
    return "".join(f"{cell.model_dump_json()}\n" for cell in found.cells)


def _harmless(value: object) -> object:
    """A spreadsheet takes a text that begins like this for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value


# --- markdown ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    name: str
    cells: tuple[str, ...]


def _markdown(found: Matrix, best: list[MatrixCell], instead: str | None) -> str:
    """`instead` is what stands in place of the table of every pair; None: the table."""
    names = [model.name for model in found.models]
    shown = best[:BEST]
    me = {
        "sentence": sentence(found),
        "best": shown,
        "rest": len(found.cells) - len(shown),
        "names": names,
        "grid": list(_rows(found)) if instead is None else [],
        "instead": instead,
        "causes": causes(found),
        "absent": ABSENT,
    }
    return templates.environment().get_template("matrix.md.j2").render(matrix=found, **me)


def _too_many(found: Matrix) -> str:
    return f"{len(found.models)} models are more than a table bears: see the page in HTML, or the files."


def _by_pair(found: Matrix) -> dict[frozenset[str], MatrixCell]:
    return {frozenset((cell.a, cell.b)): cell for cell in found.cells}


def _rows(found: Matrix) -> Iterator[_Row]:
    cells = _by_pair(found)
    for one in found.models:
        marks = tuple(mark(cells.get(frozenset((one.name, other.name)))) for other in found.models)
        yield _Row(one.name, marks)


def mark(cell: MatrixCell | None) -> str:
    """What a cell shows: a letter, and of an incompatible pair the first code."""
    if cell is None:
        return ""
    if cell.outcome == "incompatible":
        return f"X {cell.causes[0].code}" if cell.causes else "X"
    return _LETTER[cell.outcome]


def causes(found: Matrix) -> list[tuple[str, str, int]]:
    """(code, model or `pair`, number of pairs), the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    for cell in found.cells:
        counts.update({(one.code, {"a": cell.a, "b": cell.b}.get(one.subject, "the pair")) for one in cell.causes})
    return [(code, on, n) for (code, on), n in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]


# --- the page ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Square:
    text: str
    title: str
    mood: str
    colour: str = ""


def _grid(found: Matrix) -> str:
    cells = _by_pair(found)
    most = max((cell.memory or 0 for cell in found.cells), default=0)
    least = min((cell.memory for cell in found.cells if cell.memory is not None), default=0)

    def rows(heat: bool) -> list[tuple[str, list[_Square]]]:
        made = []
        for one in found.models:
            pairs = [(one, other, cells.get(frozenset((one.name, other.name)))) for other in found.models]
            squares = [_heat(*pair, least, most) if heat else _square(*pair) for pair in pairs]
            made.append((one.name, squares))
        return made

    grids = [("Verdicts", rows(heat=False))]
    if most:
        grids.append(("Memory of one step, GB allocated", rows(heat=True)))
    names = [model.name for model in found.models]
    return templates.environment().get_template("matrix-grid.html.j2").render(grids=grids, names=names)


def _square(one: MatrixModel, other: MatrixModel, cell: MatrixCell | None) -> _Square:
    if cell is None:
        return _Square("", f"{one.name} + {other.name}: not asked", "self")
    why = "; ".join(cell.why)
    return _Square(mark(cell), f"{one.name} + {other.name}: {cell.outcome}: {why}"[:600], cell.outcome)


def _heat(one: MatrixModel, other: MatrixModel, cell: MatrixCell | None, least: int, most: int) -> _Square:
    if cell is None or cell.memory is None:
        return _Square("", f"{one.name} + {other.name}: not traced", "self")
    # By ratios: among models of 1 and of 600 GB a scale of differences would show two colours.
    span = math.log(most / least) if least and most > least else 0.0
    step = int(math.log(cell.memory / least) / span * (len(_HEAT) - 1) + 0.5) if span else 0
    title = f"{one.name} + {other.name}: {human_bytes(cell.memory)}"
    return _Square(f"{cell.memory / 1e9:.1f}", title, "self", _HEAT[step])
