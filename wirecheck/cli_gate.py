"""`wirecheck gate` and `wirecheck init`: read the file, show the progress, write the files, hand back the exit code."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from wirecheck.baseline import Since, compare
from wirecheck.cli_console import captured_console, stderr_console
from wirecheck.cli_gate_faces import face
from wirecheck.cli_gate_file import first_file, line_finder, read_file, read_rules
from wirecheck.cli_github import annotate, path_in_repository
from wirecheck.cli_lock import lock_of
from wirecheck.cli_output import Refusals, read_record, say, to_json, write
from wirecheck.errors import Interrupted, UsageError
from wirecheck.gate import Gate
from wirecheck.gate_records import GateResult, GateRow
from wirecheck.gate_shelf import Shelf
from wirecheck.views import gate as view
from wirecheck.views import since as news
from wirecheck.views.console import MOST_SHOWN, LiveProgress
from wirecheck.views.whereabouts import Whereabouts
from wirecheck.views.words import visible

FLAGS = ("offline", "locked", "prove_offline")
"""Options that the command in a result repeats."""
_WIDTHS = {"verdict": 12, "stands on": 9}
"""Of columns whose words would say nothing when they are cut."""
COLOUR = {"compatible": "green", "incompatible": "bold red", "could-not-check": "red", "unproven": "yellow"}


def gate_command(file: Path, options: Mapping[str, Any]) -> int:
    """The exit code. Raises WirecheckError's children."""
    reports: list[Path] = options["report"] or []
    faces = [face(path) for path in reports]
    baseline: Path | None = options.get("baseline")
    then = None if baseline is None else read_gate_result(baseline)
    words = ["wirecheck", "gate", str(file)] + [f"--{name.replace('_', '-')}" for name in FLAGS if options[name]]
    lock = lock_of(file, read_file(file)[0]) if options["locked"] else None
    proof = options["prove_offline"]
    rules, read = read_rules(file, shlex.join(words), offline=options["offline"], lock=lock, prove_offline=proof)
    where = Whereabouts(path_in_repository(file), line_finder(file))
    target = Path(options["json"]) if options["json"] not in (None, "-") else None
    with GateProgress(stderr_console()) as watch:
        gate = Gate(rules, read, watch, Shelf.of_user(fresh=options["fresh"]))
        if target:  # a file from a killed run says `started`
            write(target, to_json(gate.result("started")))
        try:
            found = gate.run()
        except Interrupted as stop:
            if target and isinstance(stop.partial, GateResult):
                write(target, to_json(stop.partial))
            raise
    since = None if then is None else compare(found, then, str(baseline))
    with Refusals() as refused:
        if target:
            refused.write(target, to_json(found))
        for path, render in zip(reports, faces, strict=True):
            refused.write(path, partial(render, found, where, since))
        refused.say(to_json(found) if options["json"] == "-" else shown(found, since))
        with refused.held():
            annotate(found, where, since, to_stderr=options["json"] == "-")
    return view.exit_code(found)


def init_command(models: Sequence[str], file: Path) -> int:
    """`wirecheck init`: a commented file. Raises UsageError where there is one already."""
    if file.exists():
        raise UsageError(f"{file}: is there already, and is left as it is", next_step="name another with --file")
    write(file, first_file(models, datetime.now(tz=UTC).year))
    say(f"{file}: written; look it through, then: wirecheck gate {shlex.quote(str(file))}\n")
    return 0


def read_gate_result(path: Path) -> GateResult:
    """A gate's result from its file. Raises UsageError when it is none."""
    return read_record(path, GateResult, "result of `wirecheck gate`", "make one with: wirecheck gate --json PATH")


def shown(found: GateResult, since: Since | None = None) -> str:
    """What a terminal shows: the sentence, a row for each pair, what is new since a baseline, and what to do about
    pairs that are not compatible."""
    terminal = captured_console()
    with terminal.capture() as captured:
        terminal.print(Text(visible(view.sentence(found)), style=COLOUR.get(found.outcome, "yellow")))
        table = Table(box=SIMPLE_HEAD, show_edge=False)
        for head in ("pair", "verdict", "stands on", "seconds"):
            table.add_column(head, overflow="fold", no_wrap=head == "verdict", min_width=_WIDTHS.get(head))
        for row in found.rows:
            style = COLOUR.get(row.outcome, "yellow")
            table.add_row(visible(row.name), Text(row.outcome, style), view.strength(row), view.seconds(row))
        terminal.print(table)
        for line in () if since is None else news.lines(found, since):
            terminal.print(Text(visible(line), style="cyan"))
        for row in found.rows:
            if row.outcome != "compatible":
                terminal.print(Text(f"\n{visible(row.name)}", style="bold"))
                lines = view.account(found, row)
                for line in lines[:MOST_SHOWN]:
                    terminal.print(Text(f"  {visible(line)}"))
                if len(lines) > MOST_SHOWN:
                    more = len(lines) - MOST_SHOWN
                    terminal.print(Text(f"  {more:,} lines more: --json PATH, or --report PATH.html", style="bold"))
        for line in (*view.acceptances(found), *view.unlike_locked(found)):
            terminal.print(Text(visible(line), style="yellow"))
    return captured.get()


class GateProgress(LiveProgress):
    """The progress of each check, and a line for each pair that is done with."""

    def __enter__(self) -> GateProgress:
        super().__enter__()
        return self

    def row(self, row: GateRow) -> None:
        """A pair is done with."""
        kept = ", unchanged" if row.kept else ""
        self._console.print(Text(f"{visible(row.name)}: {row.outcome}{kept}", style="bold"), soft_wrap=True)
