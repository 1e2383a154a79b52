"""`wirecheck architectures`: run, show the progress, write the files, hand back the exit code."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from wirecheck.architecture_records import Architecture, ArchitectureTable
from wirecheck.architectures import chosen_types, survey
from wirecheck.cli_output import known_endings, put_down, read_record
from wirecheck.errors import Interrupted
from wirecheck.fork_pool import free_cpus
from wirecheck.schema import Severity
from wirecheck.views import architectures as view
from wirecheck.views.words import visible

FACES: dict[str, Callable[[ArchitectureTable], str]] = {".md": view.render, ".html": view.render_html}
SEED = 0


def architectures_command(
    asked: Sequence[str], json: str | None, reports: Sequence[Path], *, jobs: int | None, fresh: bool
) -> int:
    """The exit code: 0, since every type gets a row. Raises WirecheckError's children."""
    known_endings(reports, FACES, "table", "use .md or .html")
    types = chosen_types(asked)
    command = shlex.join(["wirecheck", "architectures", *(sorted(set(asked)))])
    with Watch(Console(stderr=True), len(types)) as watch:
        try:
            table = survey(types, watch, seed=SEED, jobs=jobs or free_cpus(), fresh=fresh, command=command)
        except KeyboardInterrupt:
            raise Interrupted(None) from None
    files = ((path, FACES[path.suffix.lower()](table)) for path in reports)
    put_down(table, json, files, lambda: "\n".join(map(visible, view.lines(table))) + "\n", indent=1)
    assert len(table.rows) == len(types), "a type is without a row"
    return 0


def read_table(path: Path) -> ArchitectureTable:
    """A table from its file. Raises UsageError when it is none."""
    return read_record(path, ArchitectureTable, "table of architectures")


class Watch:
    """A bar on a terminal, a line per row elsewhere; rows that lay on the shelf are counted and not told."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("types", total=total)
        self._total, self._seen, self._shelved = total, 0, 0

    def __enter__(self) -> Watch:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._shelved:
            self._console.print(f"{self._shelved} of {self._total} rows were made by an earlier run (--fresh: anew)")

    def row(self, row: Architecture, *, shelved: bool) -> None:
        """A row is there."""
        self._seen += 1
        self._shelved += shelved
        self._bar.update(self._task, completed=self._seen)
        if not shelved:
            self._bar.console.print(self._line(row), soft_wrap=True)

    def _line(self, row: Architecture) -> Text:
        order = tuple(Severity)
        worst = max((check.severity for check in row.checks), key=order.index, default=None)
        ending = row.trouble.words if row.trouble is not None else str(worst or "nothing asked")
        head = f"{self._seen:>3}/{self._total}  {row.model_type:<26}{row.seconds:6.2f} s  "
        return Text.assemble(head, visible(ending))
