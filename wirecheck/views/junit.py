"""A result as JUnit XML, in the dialect of pytest and Jenkins: what CI shows as tests.

One suite for the verdict and one per subject. In a subject's suite every probe has one case that says whether its
question is settled, and one case per code it reported on. Names hold no figures, so a case keeps its history from run
to run; claims, evidence and remedies stand inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO

from junitparser import Error, Failure, Skipped
from junitparser.xunit2 import JUnitXml, TestCase, TestSuite

from wirecheck.schema import Crashed, Finding, Outcome, PairResult, ProbeRun, Ran, Severity, Subject
from wirecheck.schema import Skipped as SkippedRun
from wirecheck.views import story
from wirecheck.views.words import human, visible

_Ending = Error | Failure | Skipped
_SUBJECTS: tuple[Subject, ...] = ("a", "b", "pair")
_NOT_XML = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}
"""No control characters, yet XML 1.0 has no way to write them."""


def render(result: PairResult) -> str:
    """The XML document of one result, ending in a newline.

    A block fails its case, under `policy.strict` a warning too; notes and sound checks pass with their claims as
    output. A skipped run, or one whose evidence is too weak, is a skipped case; a crashed one is an error. A verdict
    other than compatible fails the case `verdict`, so that a report full of skips is never green.
    """
    report = JUnitXml(_line(f"wirecheck: {story.names(result)}"))
    for suite in _suites(result):
        report.add_testsuite(suite)
    return _written(report)


def render_many(
    title: str,
    results: Iterable[tuple[str, PairResult]],
    missing: Iterable[tuple[str, str, str]],
    verdict: tuple[str, str],
    told: Iterable[str] = (),
) -> str:
    """Several results in one document, each suite under the name of its result.

    `missing`: name, kind and reason of each that has no result, which is an error. `verdict`: the outcome of all, and
    its sentence; anything but compatible fails. `told`: lines to be read beside it.
    """
    report = JUnitXml(_line(title))
    outcome, sentence = verdict
    suite, case = TestSuite("gate"), TestCase("verdict", "wirecheck.gate")
    account = "\n".join([_line(sentence), *map(_line, told)])
    if outcome == "compatible":
        case.system_out = account
    else:
        case.append(_ending(Failure, outcome, _line(sentence), account))
    suite.add_testcase(case)
    for name, kind, why in missing:
        case = TestCase(_line(name), "wirecheck.gate")
        case.append(_ending(Error, kind, _line(why), _lines(why)))
        suite.add_testcase(case)
    report.add_testsuite(suite)
    for name, result in results:
        for one in _suites(result):
            one.name = _line(f"{name} / {one.name}")
            for held in one:
                held.classname = f"{_line(name)}.{held.classname}"
            report.add_testsuite(one)
    return _written(report)


def _suites(result: PairResult) -> Iterator[TestSuite]:
    yield _verdict(result)
    for subject in _SUBJECTS:
        runs = [run for run in result.runs if run.subject == subject]
        if runs:
            yield _suite(result, subject, runs)


def _written(report: JUnitXml) -> str:
    report.update_statistics()
    written = BytesIO()
    report.write(written, pretty=True)
    return written.getvalue().decode()


def _verdict(result: PairResult) -> TestSuite:
    """The suite of the one question that all others serve."""
    verdict, policy = result.verdict, result.policy
    suite = TestSuite("verdict")
    suite.add_property("outcome", verdict.outcome.value)
    suite.add_property("strength", str(verdict.strength or "none"))
    suite.add_property("required", policy.required.value + (", strict" if policy.strict else ""))
    suite.add_property("command", _line(result.command))
    suite.add_property("seed", str(result.seed))
    for package, version in result.environment.packages:
        suite.add_property(_line(package), _line(version))
    case = TestCase("verdict", "wirecheck")
    sentence = _line(story.sentence(result))
    because = "\n".join(_line(reason) for reason in verdict.because)
    if result.status != "finished":
        case.append(_ending(Error, result.status, sentence, because))
    elif verdict.outcome is Outcome.COMPATIBLE:
        case.system_out = f"{sentence}\n{because}"
    else:
        case.append(_ending(Failure, verdict.outcome.value, sentence, because))
    suite.add_testcase(case)
    return suite


def _suite(result: PairResult, subject: Subject, runs: Iterable[ProbeRun]) -> TestSuite:
    """Everything that was asked about one model, or about the pair."""
    model = dict(story.sides(result)).get(subject)
    suite = TestSuite(_line(f"{subject}: {story.names(result) if model is None else model.name}"))
    if model is not None:
        suite.add_property("ref", _line(model.ref))
        suite.add_property("commit", _line(model.commit))
    for run in runs:
        suite.add_testcases([_question(run), *_claims(run, strict=result.policy.strict)])
    return suite


def _question(run: ProbeRun) -> TestCase:
    """Whether the probe settled its question; this case carries the run's seconds, the others none."""
    case = TestCase("settled", _class(run), round(run.seconds, 3))
    match run:
        case Ran():
            gap = run.gap(run.level)
            if gap is not None:
                case.append(_ending(Skipped, "open", _line(gap)))
        case SkippedRun():
            case.append(_ending(Skipped, "skipped", _line(run.reason)))
        case Crashed():
            error = run.error
            case.append(_ending(Error, _line(error.type), _line(error.message), _lines(error.traceback)))
    return case


def _claims(run: ProbeRun, *, strict: bool) -> list[TestCase]:
    """One case per code: CI tells cases apart by class and name, so all claims of one code share a case."""
    by_code: dict[str, list[Finding]] = {}
    for finding in story.ordered(run.findings):
        by_code.setdefault(finding.code, []).append(finding)
    refused = {Severity.BLOCK, Severity.WARN} if strict else {Severity.BLOCK}
    cases = []
    for code in dict.fromkeys(finding.code for finding in run.findings):
        own = by_code[code]
        failing = [finding for finding in own if finding.severity in refused]
        passing = [finding for finding in own if finding.severity not in refused]
        case = TestCase(_line(f"{code} {own[0].name}"), _class(run))
        if failing:
            more = f" (and {len(failing) - 1} more)" if failing[1:] else ""
            message = _line(failing[0].claim) + more
            case.append(_ending(Failure, failing[0].severity.value, message, _account(failing)))
        if passing:
            case.system_out = _account(passing)
        cases.append(case)
    return cases


def _account(findings: Iterable[Finding]) -> str:
    """Claim, evidence and remedy of each finding, one thing a line."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.severity} ({finding.level}): {_line(finding.claim)}")
        for seen in finding.evidence:
            expected = "" if seen.expected is None else f", expected {_line(human(seen.expected))}"
            lines.append(f"  {_line(seen.source)}: {_line(human(seen.observed))}{expected} ({seen.level})")
        if finding.remedy:
            lines.append(f"  remedy: {_line(finding.remedy)}")
    return "\n".join(lines)


def _ending(kind: type[_Ending], name: str, message: str, text: str | None = None) -> _Ending:
    ending = kind(message, name)
    if text:
        ending.text = text
    return ending


def _class(run: ProbeRun) -> str:
    return _line(f"wirecheck.{run.subject}.{run.probe}")


def _lines(text: str) -> str:
    """Text of several lines, each made harmless."""
    return "\n".join(_line(line) for line in text.rstrip("\n").split("\n"))


def _line(text: str) -> str:
    """Text on one line, with nothing in it that XML refuses or a viewer would hide."""
    return visible(text).translate(_NOT_XML)
