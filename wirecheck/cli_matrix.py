"""`wirecheck matrix` and `wirecheck cache`: read the names, show the progress, write the files, hand back the code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from wirecheck.cache_folder import STORE, cache_home
from wirecheck.cli_console import captured_console, stderr_console
from wirecheck.cli_matrix_asked import asked_of, gone_on_with
from wirecheck.cli_matrix_files import MatrixFiles, check_endings, write_pages, write_pair
from wirecheck.cli_matrix_slurm import begin, cancel, on_slurm
from wirecheck.cli_output import Refusals, read_record, say
from wirecheck.errors import Interrupted, UsageError
from wirecheck.fork_pool import free_cpus, held_interrupt
from wirecheck.gate_shelf import Shelf
from wirecheck.matrix import EveryPair, Executor, Local, Survey
from wirecheck.matrix_asked import Asked
from wirecheck.matrix_records import Matrix, MatrixCell, MatrixModel
from wirecheck.matrix_tally import BEST, Tally
from wirecheck.matrix_work import Pair
from wirecheck.runner import Request
from wirecheck.scratch import Scratch
from wirecheck.slurm_records import SlurmOptions
from wirecheck.snapshot import Snapshot, parse_ref, take
from wirecheck.store import OtherFormat, Store
from wirecheck.views import matrix as view
from wirecheck.views.words import ABSENT, human_bytes, visible

COLOUR = {"compatible": "green", "incompatible": "red", "unproven": "yellow"}
_WIDE = 90
"""Columns of a terminal that bears every column of the table."""
_MOST_LOST = 30
"""Models that could not be read, of which a terminal says why."""
_EVERY = 500
"""Pairs that are judged between two movements of the bar."""


def matrix_command(models: Sequence[str], options: Mapping[str, Any]) -> int:
    """0 when every pair is judged, 4 when a model could not be read. Raises WirecheckError's children."""
    run: Path | None = options["attach"] and options["attach"].absolute()  # attaching goes on in another folder
    if options["cancel"]:
        return _cancelled(run)
    asked = asked_of(models, options) if run is None else gone_on_with(run, models, options)
    check_endings(asked.paths, asked.output.json_file)
    if run is None and asked.slurm is not None:
        run = begin(options["run"], asked)
    console, shelf = stderr_console(), Shelf.of_user(fresh=asked.fresh)
    if trouble := shelf.store.trouble():
        console.print(Text(visible(trouble), style="yellow"), soft_wrap=True)
    with Watch(console) as watch:
        executor = _executor(asked, run, watch)
        survey = _survey(asked, shelf, executor, watch)
        watch.expect(len(asked.models), len(survey.pairs))
        is_cut, is_whole = _finish(survey, watch, asked)
    if is_cut:
        raise Interrupted(None)
    return 0 if is_whole and not any(model.why for model in survey.models.values()) else 4


def _cancelled(run: Path | None) -> int:
    if run is None:
        raise UsageError("--cancel is of a run", next_step="wirecheck matrix --attach FOLDER --cancel")
    cancel(run)
    say(f"{run}: its jobs are out of the queue\n")
    return 0


def _executor(asked: Asked, run: Path | None, watch: Watch) -> Executor:
    if run is None or asked.slurm is None:
        return Local(asked.jobs or free_cpus(), asked.memory_bytes)
    watch.told(f"the run is in {run}; should this end: wirecheck matrix --attach {run}")
    return on_slurm(run, SlurmOptions(**asked.slurm), asked.memory_bytes, watch.told)


def _survey(asked: Asked, shelf: Shelf, executor: Executor, watch: Watch) -> Survey:
    return Survey(
        Request(wire=asked.wire, train=asked.train, policy=asked.policy, seed=asked.seed, command=asked.command),
        {name: partial(_take, text, offline=asked.offline) for name, text in asked.models.items()},
        EveryPair(list(asked.models), asked.against),
        shelf,
        watch,
        executor,
        model_limit_s=asked.model_seconds,
        pair_limit_s=asked.pair_seconds,
    )


def _finish(survey: Survey, watch: Watch, asked: Asked) -> tuple[bool, bool]:
    """Run it, and write what came of it; whether it was cut off, and whether every pair was judged."""
    output, is_cut = asked.output, False
    tally = Tally(len(survey.read), output.top or BEST)
    with Refusals() as refused, Scratch() as place:
        shown = place / "matrix.json" if output.json_file == "-" else None
        json = Path(output.json_file) if output.json_file and shown is None else shown
        with MatrixFiles(json, asked.paths) as files:
            try:
                survey.run()
            except KeyboardInterrupt:
                is_cut = True
            with held_interrupt() as stop:  # a row is in every file, or in none
                for cell in survey.cells():
                    if stop.is_set():
                        is_cut = True
                        break
                    files.add(cell)
                    tally.add(cell)
                    watch.judged(tally.count)
            is_cut = is_cut or stop.is_set()  # during the last of them, or after it
            head = survey.head(count=tally.count)
            with refused.held():
                files.publish(head)
        with refused.held():
            write_pages(asked.paths, head, tally, {})
        if shown is None:
            refused.say(terminal_text(head, tally))
        elif shown.exists():
            refused.say(shown.read_text(encoding="utf-8"))
        if output.reports and not is_cut:
            links: dict[Pair, Path] = {}
            try:
                with refused.held():
                    links.update(_pair_reports(survey, tally, Path(output.reports)))  # a Ctrl-C keeps what is made
            except KeyboardInterrupt:
                is_cut = True
            with refused.held():
                write_pages(asked.paths, head, tally, links)
    return is_cut, tally.count == len(survey.pairs) and not tally.outcomes["could-not-check"]


def _pair_reports(survey: Survey, tally: Tally, folder: Path) -> Iterator[tuple[Pair, Path]]:
    """A report of each of the best pairs; of what could not be checked there is none."""
    asked = [(cell.a, cell.b) for cell in tally.best if cell.outcome != "could-not-check"]
    taken: set[str] = set()
    for pair, result in survey.results(asked):
        yield pair, write_pair(folder, pair, result, taken)


def _take(text: str, *, offline: bool) -> Snapshot:
    return take(parse_ref(text), offline=offline)


def read_matrix(path: Path) -> Matrix:
    """A matrix from its file. Raises UsageError when it is none."""
    return read_record(path, Matrix, "matrix")


def terminal_text(head: Matrix, tally: Tally) -> str:
    """What a terminal shows: the sentence, the best pairs, the models that could not be read."""
    best = tally.best
    terminal = captured_console()
    with terminal.capture() as captured:
        terminal.print(Text(visible(view.sentence(head, tally))))
        terminal.print(_table(best, wide=terminal.width >= _WIDE))
        if tally.count > len(best):
            terminal.print(Text(f"{tally.count - len(best):,} pairs more: --json, or --report x.csv"))
        lost = [model for model in head.models if model.why]
        for model in lost[:_MOST_LOST]:
            step = f"; next: {model.next_step}" if model.next_step else ""
            terminal.print(Text(visible(f"{model.name}: {model.why}{step}"), style="red"))
        if len(lost) > _MOST_LOST:
            terminal.print(Text(f"{len(lost) - _MOST_LOST} more could not be read: --json", style="red"))
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


class _Rate(ProgressColumn):
    """How many in a second, or what one of them takes."""

    def render(self, task: Task) -> Text:
        """The rate of the last half minute; nothing before there is one."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")  # noqa: PLR2004


class Watch:
    """Bars with rates on a terminal; a line for each model and each pair elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._run = 0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (_Rate(), TimeElapsedColumn(), TimeRemainingColumn())
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
        """A pair was run, is known, or could not be judged."""
        self._run += 1
        self._bar.update(self._pairs, completed=self._run)
        if not cell.kept:
            self._line(f"{cell.a} + {cell.b}: {cell.outcome}, {cell.seconds:.1f} s")

    def judged(self, count: int) -> None:
        """So many cells are made."""
        if count > self._run and count % _EVERY == 0:
            self._bar.update(self._pairs, completed=count)

    def told(self, words: str) -> None:
        """How the run on a cluster stands."""
        self._console.print(Text(visible(words), style="dim"), soft_wrap=True)

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
