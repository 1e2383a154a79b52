"""The runner: what ends how, what is kept, and that an unfinished check certifies nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import pair_result
from wirecheck import runner
from wirecheck.cli_output import exit_code
from wirecheck.demo import demo_folders
from wirecheck.errors import CannotRun, Interrupted
from wirecheck.probe import Probe
from wirecheck.runner import Check, Request, Silent
from wirecheck.schema import (
    Crashed,
    Evidence,
    Level,
    Outcome,
    Policy,
    Ran,
    Skipped,
    TrainSpec,
    Verdict,
    WireSpec,
)
from wirecheck.snapshot import parse_ref, take
from wirecheck.views import markdown

SEEN = Evidence(level=Level.INSPECTED, source="config.json", observed=1)


def probe(name: str, *steps: object, codes: tuple[str, ...] = ("CFG01", "CFG02"), **more) -> Probe:
    """A probe that yields a finding per code, runs a callable, and raises an exception it is given."""

    def run(bench):
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            severity = None if step in more.get("blocks", ()) else "ok"
            yield bench.found(step, "It is so.", SEEN, severity=severity)

    wanted = {key: value for key, value in more.items() if key != "blocks"}
    level = wanted.pop("level", Level.INSPECTED)
    return Probe(name=name, question="?", scope="model", level=level, codes=codes, needs="files", run=run, **wanted)


@pytest.fixture
def check(monkeypatch):
    """check(probes) -> the check of the built-in model by these probes alone."""

    def made(*probes: Probe, policy: Policy | None = None) -> Check:
        monkeypatch.setattr(runner, "MODEL_PROBES", probes)
        monkeypatch.setattr(runner, "SINGLE_PROBES", ())
        asked = {"wire": WireSpec(), "train": TrainSpec(), "policy": policy or Policy(required=Level.INSPECTED)}
        request = Request(**asked, seed=0, command="wirecheck model x")
        return Check(request, take(parse_ref(str(demo_folders()[0]))), None, Silent())

    return made


def test_three_ways_out_keep_what_was_found(check):
    ways = probe("p", "CFG01"), probe("q", "CFG01", CannotRun("no weights")), probe("r", "CFG01", KeyError("x"))
    ran, skipped, crashed = check(*ways).run().runs
    assert isinstance(ran, Ran)
    assert (skipped.kind, skipped.reason) == ("skipped", "no weights")
    assert (crashed.error.type, "KeyError" in crashed.error.traceback) == ("KeyError", True)
    assert all([finding.code for finding in run.findings] == ["CFG01"] for run in (ran, skipped, crashed))


def test_a_silent_probe_and_an_undeclared_code_are_crashes(check):
    silent, undeclared = check(probe("p"), probe("q", "CFG03")).run().runs
    assert (silent.error.type, undeclared.error.type) == ("SilentProbe", "UndeclaredCode")


def test_what_needs_a_probe_that_did_not_run_is_skipped(check):
    _, second, third = (
        check(probe("p", CannotRun("no")), probe("q", "CFG01", requires=("p",)), probe("r", "CFG01", requires=("q",)))
        .run()
        .runs
    )
    assert (second.reason, third.reason) == ("needs p (a), which skipped", "needs q (a), which skipped")


def test_a_block_makes_moot_only_what_names_its_code(check):
    blocking = probe("p", "CFG02", blocks=("CFG02",))
    _, moot, other = (
        check(blocking, probe("q", "CFG01", moot_after=("CFG02",)), probe("r", "CFG01", moot_after=("CFG01",)))
        .run()
        .runs
    )
    assert isinstance(moot, Skipped)
    assert moot.reason.startswith("moot after CFG02")
    assert isinstance(other, Ran)


def test_beyond_the_depth_nothing_runs(check):
    deep = probe("p", ZeroDivisionError(), level=Level.SIMULATED)
    (run,) = check(deep, policy=Policy(depth=Level.INSPECTED)).run().runs
    assert (run.kind, run.reason) == ("skipped", "beyond --depth inspected")


def test_ctrl_c_keeps_the_runs_and_the_findings_under_way_and_is_never_compatible(check):
    with pytest.raises(Interrupted) as stop:
        check(
            probe("p", "CFG01"), probe("q", "CFG02", KeyboardInterrupt()), policy=Policy(required=Level.DECLARED)
        ).run()
    partial = stop.value.partial
    assert [run.kind for run in partial.runs] == ["ran", "crashed"]
    assert isinstance(partial.runs[1], Crashed)
    assert [finding.code for finding in partial.runs[1].findings] == ["CFG02"]
    assert partial.verdict.outcome is Outcome.UNPROVEN


def test_a_block_seen_before_ctrl_c_is_still_a_block(check):
    with pytest.raises(Interrupted) as stop:
        check(probe("p", "CFG02", KeyboardInterrupt(), blocks=("CFG02",))).run()
    assert stop.value.partial.verdict.outcome is Outcome.INCOMPATIBLE


def test_interrupted_after_the_last_required_rung_is_not_compatible_on_any_face(check):
    started = probe("p", "CFG01")
    deep = probe("q", KeyboardInterrupt(), level=Level.EXECUTED)
    with pytest.raises(Interrupted) as stop:
        check(started, deep).run()
    partial = stop.value.partial
    assert partial.verdict.outcome is Outcome.UNPROVEN
    assert partial.verdict.because == ("the check was interrupted and not finished",)
    assert exit_code(partial) == 3
    assert "COMPATIBLE" not in markdown.render(partial)


def test_a_file_that_claims_compatible_without_having_finished_is_refused():
    verdict = Verdict(outcome=Outcome.COMPATIBLE, strength=Level.EXECUTED, because=("so",))
    with pytest.raises(ValueError, match="cannot say compatible"):
        pair_result(status="interrupted", verdict=verdict)


def test_the_commit_and_the_name_of_the_model_stand_in_the_result(check):
    result = check(probe("p", "CFG01")).run()
    assert result.a.name == Path(demo_folders()[0]).name
    assert result.a.commit.startswith("sha256:")
