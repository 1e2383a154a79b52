"""A result as SARIF 2.1.0, the format that code scanning reads: the part of it a PairResult needs.

Numbers in brackets are sections of the standard. Code scanning refuses a whole file when one result has no artifact,
so a claim about a run and not a file stands at its model; no line is ever given, because a key or tensor has none.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from wirecheck.schema import Crashed, Evidence, Finding, PairResult, ProbeRun, Ran, Scalar, Severity, Skipped
from wirecheck.views import story
from wirecheck.views.words import visible

SCHEMA_URI = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

Grade = Literal["none", "note", "warning", "error"]
GRADES: dict[Severity, Grade] = {
    Severity.OK: "none",
    Severity.NOTE: "note",
    Severity.WARN: "warning",
    Severity.BLOCK: "error",
}
_IN_A_FILE = re.compile(r"(?P<file>.+?)@(?P<commit>(?:\w+:)?[0-9a-f]{7,64})(?:#(?P<key>.*))?", re.DOTALL)
"""An evidence source that names a file of a snapshot: `file@commit#key`."""


class _Object(BaseModel):
    """The base of every object: frozen, and named in camel case on file."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Message(_Object):
    """A text for people [3.11]."""

    text: str


class ArtifactLocation(_Object):
    """A model, or a file of it: `name/file` [3.4]."""

    uri: str
    uri_base_id: Literal["MODELS"] = "MODELS"


class PhysicalLocation(_Object):
    """The whole artifact [3.29]."""

    artifact_location: ArtifactLocation


class LogicalLocation(_Object):
    """The evidence's own source: file, commit and key, or what was run [3.33]."""

    fully_qualified_name: str


class Location(_Object):
    """Where one piece of evidence can be seen again [3.28]."""

    physical_location: PhysicalLocation
    logical_locations: tuple[LogicalLocation, ...]


class Configuration(_Object):
    """The gravest level a rule was found at [3.50]."""

    level: Grade


class Descriptor(_Object):
    """A finding code, or a way in which a question stays open [3.49]."""

    id: str
    name: str | None = None
    short_description: Message
    full_description: Message
    help: Message
    default_configuration: Configuration


class DescriptorReference(_Object):
    """One of the driver's notifications [3.52]."""

    id: str


class Failure(_Object):
    """The exception that ended a crashed probe [3.59]."""

    kind: str
    message: str


class Notification(_Object):
    """A question that stays open, and why [3.58]."""

    descriptor: DescriptorReference
    level: Grade
    message: Message
    exception: Failure | None = None
    properties: dict[str, Any]


class Invocation(_Object):
    """The call that made the result [3.20]."""

    command_line: str
    execution_successful: bool
    tool_execution_notifications: tuple[Notification, ...]


class Result(_Object):
    """One finding [3.27]."""

    rule_id: str
    rule_index: int
    kind: Literal["pass", "fail"]
    level: Grade
    message: Message
    locations: tuple[Location, ...]
    related_locations: tuple[Location, ...] | None
    partial_fingerprints: dict[str, str]
    properties: dict[str, Any]


class Driver(_Object):
    """wirecheck, with the codes found in this run [3.19]."""

    name: Literal["wirecheck"] = "wirecheck"
    version: str | None
    rules: tuple[Descriptor, ...]
    notifications: tuple[Descriptor, ...]


class Tool(_Object):
    """The driver alone [3.18]."""

    driver: Driver


class Base(_Object):
    """What uris are relative to; without a uri of its own, the reader knows the place [3.14.14]."""

    description: Message


class AutomationDetails(_Object):
    """Keeps apart the runs of two pairs that are uploaded to one place [3.17]."""

    id: str


class Run(_Object):
    """The one run of the file [3.14]."""

    tool: Tool
    automation_details: AutomationDetails
    invocations: tuple[Invocation, ...]
    original_uri_base_ids: dict[str, Base]
    results: tuple[Result, ...]
    properties: dict[str, Any]


class Log(_Object):
    """The file [3.13]."""

    schema_uri: str = Field(default=SCHEMA_URI, alias="$schema")
    version: Literal["2.1.0"] = "2.1.0"
    runs: tuple[Run, ...]


def render(result: PairResult) -> str:
    """The SARIF file of one result, ending in a newline.

    A finding is a result: block, warn and note are failures of that level, a sound check is a pass. A question left
    open is a notification of the invocation, and the invocation failed when a probe crashed or the check was cut short.
    """
    return _log((_run(result),))


def render_many(results: Iterable[PairResult], missing: Iterable[tuple[str, str]], command: str) -> str:
    """Several results in one file, a run each; `missing` are names and reasons of those that have none."""
    failed = tuple(_failed(name, why, command) for name, why in missing)
    return _log((*(_run(result) for result in results), *failed))


def _log(runs: tuple[Run, ...]) -> str:
    return Log(runs=runs).model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"


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


def _run(result: PairResult) -> Run:
    rules = _rules(result)
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
        results=tuple(_results(result, [rule.id for rule in rules])),
        properties=_verdict(result),
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


def _rules(result: PairResult) -> tuple[Descriptor, ...]:
    """One rule per code found, in order of code, described by the gravest finding of it."""
    gravest: dict[str, Finding] = {}
    for finding in story.ordered(result.findings):
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


def _results(result: PairResult, rules: list[str]) -> Iterator[Result]:
    met: Counter[str] = Counter()
    for run in result.runs:
        for finding in run.findings:
            first, *others = dict.fromkeys(_locations(result, finding))
            identity = _identity(result, run, finding)
            met[identity] += 1
            fingerprint = f"{identity}:{met[identity]}"
            yield Result(
                rule_id=visible(finding.code),
                rule_index=rules.index(visible(finding.code)),
                kind="pass" if finding.severity is Severity.OK else "fail",
                level=GRADES[finding.severity],
                message=_message(finding.claim + (f" Remedy: {finding.remedy}" if finding.remedy else "")),
                locations=(first,),
                related_locations=tuple(others) or None,
                # the second name is the only one that GitHub's code scanning reads
                partial_fingerprints={"wirecheck/v1": fingerprint, "primaryLocationLineHash": fingerprint},
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
    sides = [model for side, model in story.sides(result) if finding.subject in (side, "pair")]
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
