"""The terminal: everything that matters is there at 60 columns and at 160, and plain where it is not a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from tests.factories import hostile_result, pair_result
from wirecheck.schema import Ran, Severity
from wirecheck.views import story
from wirecheck.views.console import LiveProgress, probe_line, show


def shown(result, width: int, **console) -> str:
    out = io.StringIO()
    show(result, Console(file=out, width=width, highlight=False, **console))
    return out.getvalue()


def squeezed(text: str) -> str:
    return re.sub(r"[\s│]+", " ", text)


@pytest.mark.parametrize("width", [60, 100, 160])
def test_verdict_findings_remedies_and_gaps_are_shown(width):
    result = pair_result()
    text = shown(result, width)
    assert max(map(len, text.splitlines())) <= width
    assert str(result.verdict.outcome).upper() in text
    flat = squeezed(text)
    assert squeezed(story.sentence(result)) in flat
    for finding in result.findings:
        if finding.severity is not Severity.OK:
            assert f"{finding.code} {finding.name}" in text
            assert squeezed(finding.claim) in flat
            assert not finding.remedy or squeezed(finding.remedy) in flat
    for gap in story.open_questions(result):
        assert squeezed(gap.why) in flat


def test_ok_findings_are_counted_not_listed():
    text = shown(pair_result(), 100)
    assert "CFG03" not in text
    assert "1 ok" in text


def test_no_escape_code_without_a_terminal():
    assert "\x1b" not in shown(pair_result(), 100)


def test_hostile_text_cannot_steer_a_terminal():
    assert "\x1b[31m" not in shown(hostile_result(), 80)
    assert "\u202e" not in shown(hostile_result(), 80, force_terminal=True)


def test_one_plain_line_per_probe_elsewhere():
    out = io.StringIO()
    result = pair_result()
    with LiveProgress(Console(file=out, width=60)) as progress:
        for run in result.runs:
            progress.started(run.probe, run.subject)
            progress.ended(run)
    lines = out.getvalue().splitlines()
    assert len(lines) == len(result.runs)
    assert all(
        run.probe in line and f"{run.seconds:.2f} s" in line for run, line in zip(result.runs, lines, strict=True)
    )


def test_a_line_says_how_the_probe_ended():
    lines = [probe_line(run).plain for run in pair_result().runs]
    assert [line.split(" s  ")[1].split(":")[0] for line in lines] == [
        "ok",
        "1 note",
        "1 warn",
        "1 block",
        "skipped",
        "crashed",
    ]
    assert isinstance(pair_result().runs[0], Ran)


@pytest.mark.parametrize("width", [60, 160])
def test_the_figures_of_both_models_are_shown(width):
    result = pair_result()
    text = squeezed(shown(result, width))
    for row in story.figures(result):
        assert f"{row.label} {' '.join(row.values)}" in text
    assert "hidden size 64" in text
