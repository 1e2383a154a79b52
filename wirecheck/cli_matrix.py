"""`wirecheck matrix` and `wirecheck cache`: read the names, show the progress, write the files, hand back the code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from wirecheck.cache_folder import STORE, cache_home
from wirecheck.cli_console import stderr_console
from wirecheck.cli_output import known_endings, read_record, say, to_json, write
from wirecheck.cli_request import OPTIONS, request
from wirecheck.errors import Interrupted, UsageError
from wirecheck.fork_pool import free_cpus
from wirecheck.gate_shelf import Shelf
from wirecheck.matrix import Survey, every_pair, ranked
from wirecheck.matrix_records import Matrix, MatrixCell, MatrixModel
from wirecheck.snapshot import Snapshot, parse_ref, take
from wirecheck.store import OtherFormat, Store
from wirecheck.views import matrix as view
from wirecheck.views.words import ABSENT, human_bytes, visible

FACES: dict[str, Callable[[Matrix, list[MatrixCell]], str]] = {
    ".md": view.render,
    ".html": view.render_html,
    ".csv": view.render_csv,
    ".jsonl": view.render_lines,
}
COLOUR = {"compatible": "green", "incompatible": "red", "unproven": "yellow"}
_WIDE = 90
"""Columns of a terminal that bears every column of the table."""
_NAME = 60
"""Characters of a name that a table bears."""


def matrix_command(models: Sequence[str], options: Mapping[str, Any]) -> int:
    """0 when every pair is judged, 4 when a model could not be read. Raises WirecheckError's children."""
    reports: list[Path] = options["report"] or []
    known_endings(reports, FACES, "matrix", f"use one of {', '.join(FACES)}")
    named = names_of(texts(models, options["from_file"]))
    if len(named) < 2:  # noqa: PLR2004
        raise UsageError("a matrix needs two models at least", next_step="name some, or give a list with --from FILE")
    against = _against(named, options["against"])
    asked = {option: options[option.removeprefix("--").replace("-", "_")] for option in OPTIONS}
    words = [*(["--from", str(options["from_file"])] if options["from_file"] else []), *models]
    wanted = request("matrix", words, asked, seed=options["seed"], config=options["config"])
    with Watch(stderr_console()) as watch:
        survey = Survey(
            wanted,
            {name: partial(_take, text, offline=options["offline"]) for name, text in named.items()},
            every_pair(list(named), against),
            Shelf.of_user(fresh=options["fresh"]),
            watch,
            options["jobs"] or free_cpus(),
        )
        watch.expect(len(named), len(survey.pairs))
        try:
            survey.run()
        except KeyboardInterrupt:
            _publish(survey.result(), options["json"], reports, options["top"])
            raise Interrupted(None) from None
    found = survey.result()
    _publish(found, options["json"], reports, options["top"])
    return 4 if any(model.why for model in found.models) else 0


def _take(text: str, *, offline: bool) -> Snapshot:
    return take(parse_ref(text), offline=offline)


def texts(models: Sequence[str], file: Path | None) -> list[str]:
    """The models named, those of a list last, each once. Raises UsageError."""
    listed: list[str] = []
    if file is not None:
        try:
            content = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--from {file}: {error}", next_step="give a file with one model on each line") from None
        lines = (line.partition(" #")[0].strip() for line in content.splitlines())
        listed = [line for line in lines if line and not line.startswith("#")]
    return list(dict.fromkeys([*models, *listed]))


def names_of(given: Sequence[str]) -> dict[str, str]:
    """A short name for each text, no two alike."""
    named: dict[str, str] = {}
    for text in given:
        base = visible(text.rstrip("/").rpartition("/")[2] or text)[:_NAME]
        name, n = base, 2
        while name in named:
            name, n = f"{base}-{n}", n + 1
        named[name] = text
    return named


def _against(named: Mapping[str, str], asked: str | None) -> str | None:
    if asked is None:
        return None
    found = [name for name, text in named.items() if asked in (name, text)]
    if not found:
        raise UsageError(f"--against {asked}: is none of the models", next_step=f"use one of {', '.join(named)}"[:300])
    return found[0]


def _publish(found: Matrix, json: str | None, reports: Sequence[Path], top: int | None) -> None:
    best = ranked(found.cells)[:top]
    if json and json != "-":
        write(Path(json), to_json(found, indent=1))
    for path in reports:
        write(path, FACES[path.suffix.lower()](found, best))
    say(to_json(found, indent=1) if json == "-" else shown(found, best[: top or 20]))


def read_matrix(path: Path) -> Matrix:
    """A matrix from its file. Raises UsageError when it is none."""
    return read_record(path, Matrix, "matrix")


def shown(found: Matrix, best: Sequence[MatrixCell]) -> str:
    """What a terminal shows: the sentence, the best pairs, the models that could not be read."""
    terminal = Console(highlight=False)
    with terminal.capture() as captured:
        terminal.print(Text(visible(view.sentence(found))))
        terminal.print(_table(best, wide=terminal.width >= _WIDE))
        if len(found.cells) > len(best):
            terminal.print(Text(f"{len(found.cells) - len(best)} pairs more: --json, or --report x.csv"))
        for model in found.models:
            if model.why:
                step = f"; next: {model.next_step}" if model.next_step else ""
                terminal.print(Text(visible(f"{model.name}: {model.why}{step}"), style="red"))
    return captured.get()


def _table(best: Sequence[MatrixCell], *, wide: bool) -> Table:
    """The pairs; in a narrow terminal without what the files have, too."""
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    blamed = any(cell.causes for cell in best)
    heads = ["", "pair", "verdict", *(["stands on", "warnings", "memory", "tokens A/B"] if wide else [])]
    for head in [*heads, *(["because of"] if blamed else [])]:
        table.add_column(head, overflow="fold", no_wrap=head == "verdict", min_width=12 if head == "verdict" else None)
    for n, cell in enumerate(best, 1):
        ratio = ABSENT if cell.token_length_ratio is None else f"{cell.token_length_ratio:.2f}"
        memory = ABSENT if cell.memory is None else human_bytes(cell.memory).partition(" (")[0]
        figures = [str(cell.strength or ABSENT), str(cell.warnings), memory, ratio] if wide else []
        codes = [", ".join(dict.fromkeys(one.code for one in cell.causes))] if blamed else []
        outcome = Text(cell.outcome, COLOUR.get(cell.outcome, ""))
        table.add_row(str(n), visible(f"{cell.a} + {cell.b}"), outcome, *figures, *codes)
    return table


class Watch:
    """Bars with rates on a terminal; a line for each model and each pair elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal)
        self._models = self._bar.add_task("models", total=None)
        self._pairs = self._bar.add_task("pairs", total=None)

    def __enter__(self) -> Watch:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def expect(self, models: int, pairs: int) -> None:
        """How many are to come."""
        self._bar.update(self._models, total=models)
        self._bar.update(self._pairs, total=pairs)

    def model(self, model: MatrixModel, *, kept: bool) -> None:
        """A model is probed, or could not be read."""
        self._bar.advance(self._models)
        self._line(f"{model.name}: {model.why or ('unchanged' if kept else 'probed')}")

    def cell(self, cell: MatrixCell) -> None:
        """A pair is judged, or could not be."""
        self._bar.advance(self._pairs)
        if not cell.kept:
            self._line(f"{cell.a} + {cell.b}: {cell.outcome}, {cell.seconds:.1f} s")

    def _line(self, words: str) -> None:
        if not self._console.is_terminal:
            self._console.print(Text(visible(words)), soft_wrap=True)


# --- the store ---------------------------------------------------------------------------------------------------


def cache_command(*, clear: bool) -> int:
    """Say what is kept, or take it away. Raises UsageError where the store is of another version."""
    store = Store(cache_home() / STORE)
    if clear:
        store.clear()
        say(f"{store.path}: cleared\n")
        return 0
    try:
        held = store.held()
    except OtherFormat as error:
        raise UsageError(str(error), next_step="wirecheck cache --clear") from None
    lines = [f"{one.count} of kind {one.kind}: {decimal(one.size)}" for one in held]
    say("\n".join([str(store.path), *(lines or ["nothing is kept"])]) + "\n")
    return 0
