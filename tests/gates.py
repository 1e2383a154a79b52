"""Builders of a gate's result, out of the small results of `factories`, and a reader of workflow commands."""

from __future__ import annotations

import re
from datetime import date

from tests.factories import finding, pair_result, seen
from wirecheck.gate import OUTCOMES
from wirecheck.gate_records import GateAcceptance, GateModel, GateResult, GateRow
from wirecheck.schema import (
    Acceptance,
    CheckedModel,
    Crashed,
    Finding,
    Level,
    Policy,
    ProbeError,
    ProbeRun,
    Ran,
    Skipped,
)
from wirecheck.views.whereabouts import Whereabouts

LINES = {("models", "one"): 3, ("models", "two"): 7, ("gate", "accepted", 0): 20, ("gate", "accepted", 1): 25}
WHERE = Whereabouts("ci/wirecheck.toml", LINES.get)


def false_expectation(claim: str = "vocab_size is 31,999, not 32,000.", subject: str = "a", **more: object) -> Finding:
    """A block."""
    kept = {"remedy": "Mend the expectation."} | more
    return finding("CFG11", "block", subject, claim, seen("config.json", 31999, 32000), **kept)


def warning(claim: str = "There is no pad token.", subject: str = "b", severity: str = "warn") -> Finding:
    """A warning, unless said otherwise."""
    return finding("TOK05", severity, subject, claim, seen("tokenizer_config.json", None), remedy="Set one.")


def note(claim: str = "The table's RMS is 0.02.", subject: str = "a") -> Finding:
    """A note."""
    return finding("EMB10", "note", subject, claim, seen("twin", 0.02, level=Level.SIMULATED))


def ran(*findings: Finding, probe: str = "config", subject: str = "a", level: Level = Level.INSPECTED) -> Ran:
    """A probe that ran to its end; without findings, one sound claim."""
    sound = finding("CFG03", "ok", subject, "It holds.", seen("config.json", 1, level=level))
    return Ran(probe=probe, subject=subject, level=level, seconds=0.0, findings=findings or (sound,))


def skipped(reason: str, probe: str = "values", subject: str = "b", level: Level = Level.EXECUTED) -> Skipped:
    """A probe that was not run to its end."""
    return Skipped(probe=probe, subject=subject, level=level, seconds=0.0, reason=reason)


def crashed(message: str, probe: str = "values", subject: str = "b", level: Level = Level.EXECUTED) -> Crashed:
    """A probe that raised."""
    error = ProbeError(type="RuntimeError", message=message, traceback=message)
    return Crashed(probe=probe, subject=subject, level=level, seconds=0.0, error=error)


def row(
    *runs: ProbeRun,
    a: str = "one",
    b: str | None = "two",
    policy: Policy | None = None,
    behind: CheckedModel | None = None,
) -> GateRow:
    """A row that was checked, `a` being the model `behind`; judged on runs and policy, which asks for `inspected`."""
    made = {"a": behind} if behind else {}
    result = pair_result(runs=runs, policy=policy or Policy(required=Level.INSPECTED), memory=None, **made)
    return GateRow(a=a, b=b, outcome=OUTCOMES[result.verdict.outcome], why=result.verdict.because, result=result)


def lost(*why: str, a: str = "one", b: str | None = "three", outcome: str = "could-not-check") -> GateRow:
    """A row without a result."""
    return GateRow(a=a, b=b, outcome=outcome, why=why)


def gate(*rows: GateRow, accepted: tuple[GateAcceptance, ...] = (), **changes) -> GateResult:
    """A gate that came to its end."""
    models = (GateModel(name="three", ref="three", why="no folder ./three", next_step="check the path"),)
    common = {"status": "finished", "file": "wirecheck.toml", "command": "wirecheck gate", "models": models}
    return GateResult(**(common | {"rows": rows, "accepted": accepted} | changes))


def acceptance(state: str, code: str = "CFG11", on: str = "one") -> GateAcceptance:
    """What became of an acceptance of the file."""
    return GateAcceptance(code=code, on=on, reason="we know", until=date(2999, 1, 1), state=state)


def accepting(code: str, subject: str, **more: object) -> Policy:
    """A policy that accepts a finding."""
    taken = Acceptance(code=code, subject=subject, reason="we know", until=date(2999, 1, 1))
    return Policy(**({"required": Level.INSPECTED, "accepted": (taken,)} | more))


_COMMAND = re.compile(r"::(?P<name>[\w-]+)(?: (?P<properties>.*?))?::(?P<data>.*)", re.DOTALL)


def commands(text: str) -> list[tuple[str, dict[str, str], str]]:
    """The commands that GitHub's runner finds in what a step printed: name, properties, data.

    It looks at each line: one that begins with `::`, blanks left out, or that holds `##[` anywhere.
    """
    found = []
    for line in re.split(r"\r\n|\r|\n", text):
        if "##[" in line and not line.lstrip().startswith("::"):
            found.append((line[line.index("##[") :], {}, ""))
        named = _COMMAND.fullmatch(line.lstrip())
        if named:
            pairs = [pair.split("=", 1) for pair in (named["properties"] or "").split(",") if pair]
            properties = {key: _plain(value.replace("%3A", ":").replace("%2C", ",")) for key, value in pairs}
            found.append((named["name"], properties, _plain(named["data"])))
    return found


def _plain(text: str) -> str:
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
