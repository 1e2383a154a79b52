"""A result in the terminal: a verdict panel, then findings by severity with their remedy; from 60 columns up."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from wirecheck.schema import (
    Crashed,
    Finding,
    MemoryEstimate,
    Outcome,
    PairResult,
    ProbeRun,
    Ran,
    Severity,
    Skipped,
    Subject,
)
from wirecheck.views import claims, costs, story
from wirecheck.views.words import human, human_bytes, plural, visible

COLOUR = {Outcome.COMPATIBLE: "green", Outcome.UNPROVEN: "yellow", Outcome.INCOMPATIBLE: "red"}
TONE = {Severity.BLOCK: "bold red", Severity.WARN: "yellow", Severity.NOTE: "cyan", Severity.OK: "green"}
SHOWN_PARTS = 6
MOST_SHOWN = 100
"""Findings of one severity, and open questions, that a terminal lists; files have all of them."""
_MOST_CLAIM = 2_000
"""Characters of one claim there."""
TITLE = {Severity.BLOCK: "Blocks", Severity.WARN: "Warnings", Severity.NOTE: "Notes"}


def show(result: PairResult, console: Console) -> None:
    """Print the whole result; `ok` findings are counted, not listed."""
    console.print(_panel(result))
    console.print(_models(result))
    for severity, title in TITLE.items():
        own = [finding for finding in result.findings if finding.severity is severity]
        if own:
            console.print(Text(f"\n{title} ({len(own)})", style=TONE[severity]))
            for finding in own[:MOST_SHOWN]:
                console.print(_finding(finding))
            _count_more(own, console)
    _show_claims(result, console)
    _show_open(result, console)


def _count_more(told: Sequence[object], console: Console) -> None:
    if len(told) > MOST_SHOWN:
        console.print(Text(f"  {len(told) - MOST_SHOWN:,} more: --json PATH, or --report PATH.html", style="bold"))


def _show_claims(result: PairResult, console: Console) -> None:
    said = claims.compared(result)
    if said:
        console.print(Text("\nCompared with the claim", style="bold"))
        console.print(Padding(Text(claims.sentence(said)), (0, 0, 0, 2)))
    for one in (one for one in said if one.holds is False):
        pair = f"claimed {human(one.claim.value)}, found {human(one.found)}"
        told = Text(visible(f"{one.claim.subject} {one.claim.key}: {pair}"), style="red")
        console.print(Padding(told, (0, 0, 0, 2)))


def _show_open(result: PairResult, console: Console) -> None:
    """What is not proven, and what it would cost."""
    gaps = story.open_questions(result)
    if gaps:
        console.print(Text(f"\nNot proven ({len(gaps)})", style="bold"))
        for gap in gaps[:MOST_SHOWN]:
            words = Text.assemble(
                (visible(f"{gap.subject} {gap.probe}"), "bold"), f" ({gap.level}): {visible(gap.why)}"
            )
            console.print(Padding(words, (0, 0, 0, 2)))
        _count_more(gaps, console)
        console.print(Text("\nWhat it would cost to prove", style="bold"))
    for cost in costs.costs(result):
        told = f", {plural(cost.questions, 'question')}: {visible(cost.needs)}"
        console.print(Padding(Text.assemble((str(cost.level), "bold"), told), (0, 0, 0, 2)))
        if cost.command:
            console.print(Text(f"    {visible(cost.command)}"), soft_wrap=True)


def _panel(result: PairResult) -> RenderableType:
    colour = COLOUR[result.verdict.outcome]
    lines: list[RenderableType] = [Text(visible(story.sentence(result)))]
    counts = story.counts(result)
    lines.append(Text(", ".join(f"{count} {severity}" for severity, count in counts.items()), style="dim"))
    ladder = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    for rung in story.ladder(result):
        whole = rung.total and rung.settled == rung.total and result.status == "finished"
        state = f"{rung.settled} of {rung.total} settled" if rung.total else "no probe stands here"
        ladder.add_row(Text("●" if whole else "○", style="green" if whole else "dim"), str(rung.level), Text(state))
    lines.append(ladder)
    if result.memory:
        peak = human_bytes(result.memory.allocated_bytes)
        lines.append(Text(f"Memory of one step: {peak}, by {result.memory.method}"))
        lines.append(_parts(result.memory))
        lines.extend(Text(f"  {fit.gpu} x{fit.count}: {fit.outcome}") for fit in result.memory.fits)
    title = Text(str(result.verdict.outcome).upper(), style=f"bold {colour}")
    return Panel(Group(*lines), title=title, title_align="left", border_style=colour, box=box.ROUNDED)


def _parts(memory: MemoryEstimate) -> RenderableType:
    """The largest parts of the peak, each with its bar."""
    chart = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    for part in sorted(memory.parts, key=lambda one: -one.bytes)[:SHOWN_PARTS]:
        size = f"{part.bytes / 2**30:.2f} GiB"
        bar = Text(story.bar(part.bytes, memory.allocated_bytes), style="blue", overflow="crop", no_wrap=True)
        chart.add_row(Text(f"  {visible(part.name)}"), Text(size, justify="right"), bar)
    return chart


def _models(result: PairResult) -> RenderableType:
    """The figures of the models side by side; their rungs and sources stand in the reports and the JSON."""
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("")
    for letter, model in story.sides(result):
        table.add_column(Text(f"{letter}: {visible(model.name)}"), overflow="fold")
    for row in story.figures(result):
        table.add_row(Text(row.label, style="dim"), *(Text(value) for value in row.values))
    return table


def _finding(finding: Finding) -> RenderableType:
    head = Text.assemble(
        (visible(finding.code), TONE[finding.severity]),
        (f" {visible(finding.name)} ", "bold"),
        (f"[{finding.subject}, {finding.level}]", "dim"),
    )
    body: list[RenderableType] = [head, Padding(Text(visible(_short(finding.claim))), (0, 0, 0, 2))]
    if finding.remedy:
        remedy = Text.assemble(("remedy: ", "bold"), visible(_short(finding.remedy)))
        body.append(Padding(remedy, (0, 0, 0, 2)))
    return Padding(Group(*body), (0, 0, 0, 2))


def _short(text: str) -> str:
    """As much as a person reads in a terminal; what is left out is counted."""
    more = len(text) - _MOST_CLAIM
    return text if more <= 0 else f"{text[:_MOST_CLAIM]}… ({more:,} characters more)"


def probe_line(run: ProbeRun) -> Text:
    """One line for a probe that has ended: subject, name, seconds, and how it ended."""
    match run:
        case Ran():
            worst = min((story.ORDER.index(f.severity) for f in run.findings), default=len(story.ORDER) - 1)
            severity = story.ORDER[worst]
            style = TONE[severity]
            grave = sum(f.severity is severity for f in run.findings)
            ending = "ok" if severity is Severity.OK else plural(grave, str(severity))
        case Skipped():
            ending, style = f"skipped: {visible(run.reason)}", "dim"
        case Crashed():
            ending, style = visible(f"crashed: {run.error.type}: {run.error.message}"), "bold magenta"
    return Text.assemble(f"{run.subject:<5}{visible(run.probe):<16}{run.seconds:6.2f} s  ", (ending, style))


class LiveProgress:
    """Progress on a console: the probe under way as a live line on a terminal, one plain line per probe elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("") if console.is_terminal else None

    def __enter__(self) -> LiveProgress:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def note(self, words: str) -> None:
        """What is under way outside any probe, such as reading a snapshot."""
        if self._status:
            self._status.update(visible(words))

    def started(self, probe: str, subject: Subject) -> None:
        """A probe begins."""
        self.note(f"{subject}: {probe} …")

    def ended(self, run: ProbeRun) -> None:
        """A probe has ended: one line stays."""
        self._console.print(probe_line(run), no_wrap=True, overflow="ellipsis", soft_wrap=not self._console.is_terminal)
