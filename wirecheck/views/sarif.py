"""A result as SARIF 2.1.0, the format that code scanning reads: the part of it a PairResult needs.

Numbers in brackets are sections of the standard. Code scanning refuses a whole file when one result has no artifact,
so a claim about a run and not a file stands at its model; no line is ever given, because a key or tensor has none.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from wirecheck.schema import Crashed, Evidence, Finding, PairResult, ProbeRun, Ran, Scalar, Severity, Skipped
from wirecheck.views import sarif_limits, story
from wirecheck.views.sarif_objects import (
    ArtifactLocation,
    AutomationDetails,
    Base,
    BaselineState,
    Configuration,
    Descriptor,
    DescriptorReference,
    Driver,
    Failure,
    Grade,
    Invocation,
    Location,
    Log,
    LogicalLocation,
    Message,
    Notification,
    PhysicalLocation,
    Result,
    Run,
    Tool,
)
from wirecheck.views.words import visible

GRADES: dict[Severity, Grade] = {
    Severity.OK: "none",
    Severity.NOTE: "note",
    Severity.WARN: "warning",
    Severity.BLOCK: "error",
}
_IN_A_FILE = re.compile(r"(?P<file>.+?)@(?P<commit>(?:\w+:)?[0-9a-f]{7,64})(?:#(?P<key>.*))?", re.DOTALL)
"""An evidence source that names a file of a snapshot: `file@commit#key`."""


class Compared(NamedTuple):
    """A result against an earlier one."""

    file: str
    """Where the earlier one was read."""
    states: Sequence[BaselineState]
    """Of every finding, in their order."""
    then: PairResult | None = None
    gone: Sequence[tuple[ProbeRun, Finding]] = ()
    """Of the earlier one, what is no longer found though it was looked for."""


def render(result: PairResult) -> str:
    """The SARIF file of one result, ending in a newline.

    A finding is a result: block, warn and note are failures of that level, a sound check is a pass. A question left
    open is a notification of the invocation, and the invocation failed when a probe crashed or the check was cut short.
    """
    return _log((_run(result),))


def render_many(
    results: Iterable[tuple[PairResult, Compared | None]], missing: Iterable[tuple[str, str]], command: str
) -> str:
    """Several results in one file, a run each; `missing` are names and reasons of those that have none.

    What is no longer found is a result, too, `absent` from this run: it passes, since not every reader knows the word.
    """
    failed = tuple(_failed(name, why, command) for name, why in missing)
    return _log((*(_run(result, compared) for result, compared in results), *failed))


def _log(runs: tuple[Run, ...]) -> str:
    return Log(runs=sarif_limits.within(runs)).model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"


def _failed(name: str, why: str, command: str) -> Run:
    """The run of a check that was not made."""
    told = Invocation(command_line=visible(command), execution_successful=False, tool_execution_notifications=())
    return Run(
        tool=Tool(driver=Driver(version=None, rules=(), notifications=_OPEN)),
        automation_details=AutomationDetails(id=f"wirecheck/{visible(name)}/"),
        invocations=(told,),
        original_uri_base_ids={"MODELS": Base(description=_message("The place where the checked models are kept."))},
        results=(),
        properties={"status": "not checked", "because": [visible(why)]},
    )


def _run(result: PairResult, compared: Compared | None = None) -> Run:
    rules = _rules((*result.findings, *(finding for _, finding in (compared.gone if compared else ()))))
    crashed = any(isinstance(run, Crashed) for run in result.runs)
    invocation = Invocation(
        command_line=visible(result.command),
        execution_successful=result.status == "finished" and not crashed,
        tool_execution_notifications=tuple(_notifications(result)),
    )
    versions = dict(result.environment.packages)
    version = visible(versions["wirecheck"]) if "wirecheck" in versions else None
    return Run(
        tool=Tool(driver=Driver(version=version, rules=rules, notifications=_OPEN)),
        automation_details=AutomationDetails(id=f"wirecheck/{visible(story.names(result))}/"),
        invocations=(invocation,),
        original_uri_base_ids={"MODELS": Base(description=_message("The place where the checked models are kept."))},
        results=tuple(_results(result, [rule.id for rule in rules], compared)),
        properties=_verdict(result) | ({"baseline": visible(compared.file)} if compared else {}),
    )


def _verdict(result: PairResult) -> dict[str, Any]:
    """What SARIF has no word for: which bytes were checked, what was asked, and the answer."""
    verdict = result.verdict
    return {
        "status": result.status,
        "outcome": verdict.outcome,
        "strength": verdict.strength or "none",
        "required": result.policy.required,
        "strict": result.policy.strict,
        "because": [visible(reason) for reason in verdict.because],
        "models": {side: {"ref": visible(m.ref), "commit": visible(m.commit)} for side, m in story.sides(result)},
        "seed": result.seed,
    }


def _rules(findings: tuple[Finding, ...]) -> tuple[Descriptor, ...]:
    """One rule per code found, in order of code, described by the gravest finding of it."""
    gravest: dict[str, Finding] = {}
    for finding in story.ordered(findings):
        gravest.setdefault(finding.code, finding)
    return tuple(
        Descriptor(
            id=visible(code),
            name=visible(finding.name),
            short_description=_message(finding.name.replace("-", " ").capitalize()),
            full_description=_message(finding.claim),
            help=_message(f"{finding.remedy or finding.claim} More: wirecheck explain {code}"),
            default_configuration=Configuration(level=GRADES[finding.severity]),
        )
        for code, finding in sorted(gravest.items())
    )


def _results(result: PairResult, rules: list[str], compared: Compared | None) -> Iterator[Result]:
    met: Counter[str] = Counter()
    told = [(run, finding) for run in result.runs for finding in run.findings]
    states: Sequence[BaselineState | None] = compared.states if compared else [None] * len(told)
    shown = [(result, *pair, state) for pair, state in zip(told, states, strict=True)]
    if compared is not None and compared.then is not None:
        shown += [(compared.then, *pair, "absent") for pair in compared.gone]
    for source, run, finding, state in shown:
        identity = _identity(source, run, finding)
        met[identity] += 1
        at = rules.index(visible(finding.code))
        yield _result(source, run, finding, at=at, fingerprint=f"{identity}:{met[identity]}", state=state)


def _result(
    result: PairResult,
    run: ProbeRun,
    finding: Finding,
    *,
    at: int,
    fingerprint: str,
    state: BaselineState | None,
) -> Result:
    absent = state == "absent"
    first, *others = dict.fromkeys(_locations(result, finding))
    remedy = f" Remedy: {finding.remedy}" if finding.remedy else ""
    return Result(
        rule_id=visible(finding.code),
        rule_index=at,
        kind="pass" if finding.severity is Severity.OK or absent else "fail",
        level="none" if absent else GRADES[finding.severity],
        message=_message(f"No longer found: {finding.claim}" if absent else finding.claim + remedy),
        locations=(first,),
        related_locations=tuple(others) or None,
        # the second name is the only one that GitHub's code scanning reads
        partial_fingerprints={"wirecheck/v1": fingerprint, "primaryLocationLineHash": fingerprint},
        baseline_state=state,
        properties={
            "subject": finding.subject,
            "probe": visible(run.probe),
            "evidenceLevel": finding.level,
            "evidence": [_observation(evidence) for evidence in finding.evidence],
        },
    )


def _identity(result: PairResult, run: ProbeRun, finding: Finding) -> str:
    """The same for the same trouble in a later run: no commit, no figure and no side goes into it."""
    whom = story.names(result) if finding.subject == "pair" else story.subject_name(result, finding.subject)
    source = finding.evidence[0].source
    named = _IN_A_FILE.fullmatch(source)
    where = f"{named['file']}#{named['key']}" if named else source
    return hashlib.sha256("\0".join((finding.code, run.probe, whom, where)).encode()).hexdigest()[:32]


def _observation(evidence: Evidence) -> dict[str, Scalar]:
    """The evidence in values, not in words: numbers stay numbers."""
    values = {"level": evidence.level.value, "source": evidence.source, "observed": evidence.observed}
    if evidence.expected is not None:
        values["expected"] = evidence.expected
    return {key: visible(value) if isinstance(value, str) else value for key, value in values.items()}


def _locations(result: PairResult, finding: Finding) -> Iterator[Location]:
    """At least one; those in a file first."""
    sources = [evidence.source for evidence in finding.evidence]
    for source in sorted(sources, key=lambda source: _IN_A_FILE.fullmatch(source) is None):
        for uri in _uris(result, finding, source):
            yield Location(
                physical_location=PhysicalLocation(artifact_location=ArtifactLocation(uri=uri)),
                logical_locations=(LogicalLocation(fully_qualified_name=visible(source)),),
            )


def _uris(result: PairResult, finding: Finding, source: str) -> Iterator[str]:
    """The file of the model whose commit the source names, else the model; for the pair, both models."""
    both = story.sides(result)  # a record made by somebody else may speak of a side that it lacks
    sides = [model for side, model in both if finding.subject in (side, "pair")] or [model for _, model in both]
    named = _IN_A_FILE.fullmatch(source)
    if named:
        owners = [model for model in sides if model.commit.startswith(named["commit"])] or sides
        yield _path(f"{owners[0].name}/{named['file']}")
    else:
        yield from (_path(model.name) for model in sides)


def _path(name: str) -> str:
    """A relative uri that stays below its base, whatever the name holds."""
    segments = [quote(part, safe="") for part in visible(name).split("/") if part not in ("", ".", "..")]
    return "/".join(segments) or "model"


def _notifications(result: PairResult) -> Iterator[Notification]:
    for run in result.runs:
        gap = run.gap(run.level)
        if gap is None:
            continue
        failure = None
        match run:
            case Ran():
                kind = _OPEN[0]
            case Skipped():
                kind = _OPEN[1]
            case Crashed():
                kind = _OPEN[2]
                failure = Failure(kind=visible(run.error.type), message=visible(run.error.message))
        yield Notification(
            descriptor=DescriptorReference(id=kind.id),
            level=kind.default_configuration.level,
            message=_message(f"{run.probe} ({run.subject}, {run.level}): {gap}"),
            exception=failure,
            properties={"subject": run.subject, "probe": visible(run.probe)},
        )


def _message(text: str) -> Message:
    """A message string: one line, nothing hidden, braces doubled [3.11.5], no link made by a stranger [3.11.6]."""
    return Message(text=visible(text).replace("{", "{{").replace("}", "}}").replace("](", "] ("))


_OPEN = tuple(
    Descriptor(
        id=kind,
        short_description=_message(f"A probe ended as {kind}"),
        full_description=_message(text),
        help=_message(advice),
        default_configuration=Configuration(level=level),
    )
    for kind, level, text, advice in (
        (
            "open",
            "warning",
            "The probe ran, but its evidence is weaker than its question asks.",
            "Nothing stronger than the rung its claims stand on is certified.",
        ),
        (
            "skipped",
            "note",
            "The probe was not run to its end: a condition was missing.",
            "Meet the condition that the message names, and run the check again.",
        ),
        (
            "crashed",
            "error",
            "The probe raised an exception: a bug, or a failure nobody foresaw.",
            "Report it with the message; what the probe had found before stands.",
        ),
    )
)
