"""`wirecheck fit`: read both models, show the progress, write the files, hand back the exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from wirecheck.cli_console import captured_console, stderr_console
from wirecheck.cli_options import REPORTS_OF_TABLES
from wirecheck.cli_output import known_endings, put_down, read_record, to_json, write
from wirecheck.cli_request import OPTIONS, request
from wirecheck.errors import Interrupted
from wirecheck.fit import started
from wirecheck.fit_apart import fit_apart
from wirecheck.fork_pool import free_cpus
from wirecheck.frontier_records import Frontier, FrontierRow
from wirecheck.snapshot import parse_ref, take
from wirecheck.views import fit as view
from wirecheck.views.words import visible

FACES: dict[str, Callable[[Frontier], str]] = {".md": view.render, ".html": view.render_html}


def fit_command(models: Sequence[str], options: Mapping[str, Any]) -> int:
    """The exit code. Raises WirecheckError's children."""
    reports: list[Path] = options["report"] or []
    known_endings(reports, FACES, "table", f"use {REPORTS_OF_TABLES}")
    asked = {option: options.get(option.removeprefix("--").replace("-", "_")) for option in OPTIONS}
    wanted = request("fit", models, asked, seed=options["seed"], config=options["config"])
    if options["curve"]:
        wanted = replace(wanted, command=f"{wanted.command} --curve")
    target = Path(options["json"]) if options["json"] not in (None, "-") else None
    with Watch(stderr_console()) as watch:
        try:
            snapshots = []
            for text in models:
                watch.note(f"reading {text} …")
                snapshots.append(take(parse_ref(text), offline=options["offline"]))
            a, b = snapshots
            if target:  # a file from a killed run says `started`
                write(target, to_json(started(wanted, a, b)))
            found = fit_apart(wanted, a, b, watch, jobs=options["jobs"] or free_cpus(), curve=options["curve"])
        except KeyboardInterrupt:
            raise Interrupted(None) from None
        except Interrupted as stop:
            if target and isinstance(stop.partial, Frontier):
                write(target, to_json(stop.partial))
            raise
    files = ((path, FACES[path.suffix.lower()](found)) for path in reports)
    put_down(found, options["json"], files, lambda: shown(found))
    return view.exit_code(found)


def read_frontier(path: Path) -> Frontier:
    """A frontier from its file. Raises UsageError when it is none."""
    return read_record(path, Frontier, "result of `wirecheck fit`")


def shown(frontier: Frontier) -> str:
    """What a terminal shows: the sentence, and a table for each axis."""
    terminal, told = captured_console(), view.View(frontier)
    heads = {
        "batch": f"largest batch, at {frontier.train.context:,} text tokens",
        "context": f"longest context in text tokens, at batch {frontier.train.batch:,}",
    }
    with terminal.capture() as made:
        terminal.print(Text(visible(told.sentence), style="bold"))
        for axis in view.AXES:
            table = Table("GPU", title=heads[axis], title_justify="left", title_style="bold", box=SIMPLE_HEAD)
            for way in told.ways:
                table.add_column(way, overflow="fold")
            for line in told.lines(axis):
                table.add_row(visible(line.head), *map(_toned, line.cells))
            terminal.print(table)
        for curve in told.curves:
            title = f"largest batch that fits, by context in text tokens, {curve.words}"
            table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            table.add_column("GPU", overflow="fold", min_width=min(12, max(len(told.head(row)) for row in curve.rows)))
            for context in curve.contexts:
                table.add_column(f"{context:,}", overflow="fold")
            for row in curve.rows:
                table.add_row(visible(told.head(row)), *map(_toned, curve.sure(row)))
            terminal.print(table)
        terminal.print(Text(visible(told.legend), style="dim"))
        for what, why in told.untraced:
            terminal.print(Text.assemble((f"{what}: ", "bold yellow"), visible(why)))
        terminal.print(Text(f"Found in {frontier.seconds:.1f} s; nothing was measured on a GPU.", style="dim"))
    return made.get()


def _toned(cell: str) -> Text:
    return Text(cell, style="red" if cell == "none" else "yellow" if cell.startswith(("0", "not")) else "")


class Watch:
    """A bar on a terminal, a line for each finished piece of the work elsewhere."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._console = console
        self._bar = Bars(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("…", total=None)

    def __enter__(self) -> Watch:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def note(self, words: str) -> None:
        """What is under way."""
        self._bar.update(self._task, description=visible(words))

    def rows(self, rows: Sequence[FrontierRow], done: int, total: int) -> None:
        """Some rows are there."""
        names = ", ".join(dict.fromkeys(row.gpu for row in rows))
        ways = ", ".join(dict.fromkeys(row.way for row in rows))
        self._bar.update(self._task, description="tracing", completed=done, total=total)
        if not self._console.is_terminal:
            self._console.print(f"{done:>3}/{total}  {visible(names)}: {ways}", soft_wrap=True, highlight=False)
