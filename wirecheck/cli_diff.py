"""`wirecheck diff`: read two results, compare them, write the files, show what changed, hand back the exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from wirecheck.bounded_text import MOST_RECORD_BYTES, bounded_text
from wirecheck.cli_console import captured_console
from wirecheck.cli_options import REPORTS_OF_TABLES
from wirecheck.cli_output import known_endings, put_down
from wirecheck.difference import compare, kind_of
from wirecheck.difference_records import Difference, FindingChange, RowDifference
from wirecheck.errors import UsageError
from wirecheck.gate_records import GateResult
from wirecheck.schema import PairResult, Severity
from wirecheck.views import difference as view
from wirecheck.views.console import TONE
from wirecheck.views.words import plural, visible

FACES: dict[str, Callable[[Difference], str]] = {".md": view.render, ".html": view.render_html}
KINDS = {"pair": "a pair", "model": "one model", "gate": "a gate"}
SIGNS = {"-": "red", "+": "green"}


def diff_command(old: Path, new: Path, options: Mapping[str, Any]) -> int:
    """The exit code. Raises UsageError where a file is no result, or the two are not of a kind."""
    reports: list[Path] = options["report"] or []
    known_endings(reports, FACES, "diff", f"use {REPORTS_OF_TABLES}")
    before, after = read(old), read(new)
    if kind_of(before) != kind_of(after):
        raise UsageError(
            f"{old} is of {KINDS[kind_of(before)]}, {new} of {KINDS[kind_of(after)]}: they cannot be compared",
            next_step="name two results of the same command",
        )
    found = compare(before, after, (str(old), str(new)))
    files = ((path, FACES[path.suffix.lower()](found)) for path in reports)
    put_down(found, options["json"], files, lambda: shown(found))
    return view.exit_code(found)


def read(path: Path) -> PairResult | GateResult:
    """A result of a pair, of a model or of a gate, from its file. Raises UsageError when it is none."""
    try:
        text = bounded_text(path, MOST_RECORD_BYTES)
        fields = TypeAdapter(dict[str, Any]).validate_json(text)
        record: type[PairResult | GateResult] = GateResult if "rows" in fields and "file" in fields else PairResult
        return record.model_validate_json(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", next_step="name a file made with --json") from None
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UsageError(
            f"{path}: no result of `wirecheck pair`, `model` or `gate`: {first}", next_step="make one with --json PATH"
        ) from None


def shown(found: Difference) -> str:
    """What a terminal shows: the sentence, what the two rest on, then each row's changes, the gravest first."""
    terminal, told = captured_console(), view.View(found)
    with terminal.capture() as captured:
        style = "bold red" if found.is_worse else "bold"
        terminal.print(Text(visible(told.sentence), style=style))
        if told.causes:
            terminal.print(_causes(told))
            if told.has_digests:
                _print(terminal, told.DIGESTS, "dim")
        for row in found.rows:
            _show_row(terminal, told, row)
    return captured.get()


def _causes(told: view.View) -> Table:
    title = "\nWhat differs in what was asked and read"
    table = Table("", "", "old", "new", title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    named = any(rows for *_, rows in told.causes)
    if named:
        table.add_column("rows")
    for column in table.columns:
        column.overflow = "fold"
    for of, key, old, new, rows in told.causes:
        cells = (of, key, old, new, *([rows or "all"] if named else []))
        table.add_row(*(Text(visible(cell)) for cell in cells))
    return table


def _show_row(terminal: Console, told: view.View, row: RowDifference) -> None:
    style = "bold red" if row.is_worse else "bold"
    head = f"{visible(row.name)}: {told.head(row)}" if told.difference.kind == "gate" else "What changed"
    terminal.print(Text(f"\n{head}", style=style))
    if not row.is_compared and row.old and row.new:
        _print(terminal, told.UNCOMPARED, "dim")
    for sign, line in told.verdict(row):
        _print(terminal, f"{sign} {line}", SIGNS.get(sign, ""))
    for run in row.runs:
        words = f"{told.subject(row, run.subject)} {run.probe}: {told.ended(run.old)} → {told.ended(run.new)}"
        _print(terminal, f"~ {words}", "yellow")
        _why(terminal, run.why)
    quiet = [change for change in told.findings(row) if view.gravest(change) is Severity.OK]
    for change in told.findings(row):
        if change not in quiet:
            _finding(terminal, told, row, change)
    if quiet:
        listed = ", ".join(dict.fromkeys(f"{one.code} ({told.subject(row, one.subject)})" for one in quiet))
        _print(terminal, f"{plural(len(quiet), 'sound claim')} new, gone or in other words: {listed}", "dim")
    for fact in row.facts:
        old, new = told.fact(fact)
        _print(terminal, f"~ {told.subject(row, fact.subject)} {fact.key}: {old} → {new}", "cyan")
        _why(terminal, fact.why)
    _memory(terminal, told, row)


def _finding(terminal: Console, told: view.View, row: RowDifference, change: FindingChange) -> None:
    severity = view.gravest(change)
    head = f"{told.severities(change)}: {change.code} {change.name} [{told.subject(row, change.subject)}]"
    _print(terminal, head, TONE[severity])
    for sign, claim in told.claims(change):
        _print(terminal, f"{sign} {claim}".strip(), SIGNS.get(sign, ""), indent=4)
    _why(terminal, change.why)


def _memory(terminal: Console, told: view.View, row: RowDifference) -> None:
    if row.memory is None:
        return
    figures = told.figures(row)
    if figures:
        table = Table("memory", "old", "new", "more", box=SIMPLE_HEAD)
        for figure in figures:
            table.add_row(*(Text(visible(cell)) for cell in (figure.name, figure.old, figure.new, figure.more)))
        terminal.print(Padding(table, (0, 0, 0, 2), expand=False))
    for sign, lines in (("-", row.memory.no_longer_assumed), ("+", row.memory.now_assumed)):
        for line in lines:
            _print(terminal, f"{sign} assumed: {line}", SIGNS[sign])
    _why(terminal, row.memory.why)


def _why(terminal: Console, lines: Iterable[str]) -> None:
    for line in lines:
        _print(terminal, line, "dim", indent=6)


def _print(terminal: Console, words: str, style: str, indent: int = 2) -> None:
    terminal.print(Padding(Text(visible(words), style=style), (0, 0, 0, indent), expand=False))
