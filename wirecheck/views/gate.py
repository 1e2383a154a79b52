"""What a gate found, as markdown, HTML, JUnit XML and SARIF, and as the lines that a terminal shows."""

from __future__ import annotations

from wirecheck.baseline import RowSince, Since, State
from wirecheck.gate_records import GateAcceptance, GateOutcome, GateResult, GateRow
from wirecheck.schema import Severity
from wirecheck.views import html, junit, sarif, templates
from wirecheck.views import since as news
from wirecheck.views.sarif_objects import BaselineState
from wirecheck.views.words import ABSENT, plural

EXIT: dict[GateOutcome, int] = {"compatible": 0, "incompatible": 1, "could-not-check": 4, "unproven": 3, "not-run": 3}


def exit_code(found: GateResult) -> int:
    """That of the worst row; 0 only where every row is compatible."""
    return EXIT[found.outcome]


def render(found: GateResult, since: Since | None = None) -> str:
    """The result as GitHub-flavoured markdown: same input, same bytes."""
    me = {"sentence": sentence(found), "strength": strength, "acceptances": acceptances(found)}
    new = () if since is None else news.lines(found, since)
    page = templates.environment().get_template("gate.md.j2")
    return page.render(gate=found, account=account, seconds=seconds, news=new, **me)


def render_html(found: GateResult, since: Since | None = None) -> str:
    """The result as one self-contained page."""
    mood = {0: "compatible", 1: "incompatible"}.get(exit_code(found), "unproven")
    return html.page(render(found, since), title=f"wirecheck gate: {found.outcome}", mood=mood)


def render_junit(found: GateResult, since: Since | None = None) -> str:
    """Every row's suites, by the names of the file; a row without a result is an error."""
    missing = [(row.name, row.outcome, "\n".join(row.why)) for row in found.rows if row.result is None]
    told = (*acceptances(found), *(() if since is None else news.lines(found, since)))
    results = [(row.name, row.result) for row in found.rows if row.result is not None]
    return junit.render_many(f"wirecheck gate: {found.file}", results, missing, (found.outcome, sentence(found)), told)


def render_sarif(found: GateResult, since: Since | None = None) -> str:
    """One run for each row; that of a row without a result did not succeed."""
    compared = [None] * len(found.rows) if since is None else [_compared(since, row) for row in since.rows]
    pairs = zip(found.rows, compared, strict=True)
    results = [(row.result, told) for row, told in pairs if row.result is not None]
    missing = [(row.name, "; ".join(row.why)) for row in found.rows if row.result is None]
    return sarif.render_many(results, missing, found.command)


def _compared(since: Since, row: RowSince) -> sarif.Compared:
    """The states of the row's findings, which come before its open questions, in SARIF's words."""
    gone = [(one.run, one.finding) for one in row.gone if one.run is not None and one.finding is not None]
    return sarif.Compared(since.file, [_BASELINE_STATE[state] for state in row.finding_states], row.then, gone)


_BASELINE_STATE: dict[State, BaselineState] = {
    "new": "new",
    "worse": "updated",
    "updated": "updated",
    "unchanged": "unchanged",
}


def sentence(found: GateResult) -> str:
    """What it comes to, in one sentence."""
    count = len(found.rows)
    good = sum(row.outcome == "compatible" for row in found.rows)
    if found.status != "finished":
        return f"{found.file}: {found.status}, not finished; {good} of {count} compatible so far. Nothing is certified."
    if good == count and count:
        kept = sum(row.kept for row in found.rows)
        unchanged = f" ({kept} unchanged since an earlier check)" if kept else ""
        return f"{found.file}: {'all ' if count > 1 else ''}{plural(count, 'check')} compatible{unchanged}."
    others: dict[GateOutcome, int] = {}
    for row in found.rows:
        if row.outcome != "compatible":
            others[row.outcome] = others.get(row.outcome, 0) + 1
    told = ", ".join(f"{n} {outcome.replace('-', ' ')}" for outcome, n in others.items())
    return f"{found.file}: {good} of {plural(count, 'check')} compatible; {told}."


def strength(row: GateRow) -> str:
    """The rung the verdict stands on."""
    if row.result is None or row.result.verdict.strength is None:
        return ABSENT
    return str(row.result.verdict.strength)


def seconds(row: GateRow) -> str:
    """How long it took, or that nothing was run."""
    return "unchanged" if row.kept else f"{row.seconds:.1f}"


def account(found: GateResult, row: GateRow) -> tuple[str, ...]:
    """Why the row is not compatible, and what mends it, a line each."""
    lines = list(row.why)
    if row.result is None:
        steps = {model.name: model.next_step for model in found.models}
        lines += [f"next: {step}" for name in (row.a, row.b) if name and (step := steps.get(name))]
        return tuple(lines)
    refused = {Severity.BLOCK, Severity.WARN} if row.result.policy.strict else {Severity.BLOCK}
    accepted = {(one.code, one.subject) for one in row.result.policy.accepted}
    for finding in row.result.findings:
        if finding.severity in refused and (finding.code, finding.subject) not in accepted and finding.remedy:
            lines.append(f"remedy of {finding.code}: {finding.remedy}")
    return tuple(dict.fromkeys(lines))


def acceptances(found: GateResult) -> tuple[str, ...]:
    """What is to be said of the file's acceptances: those that expired, and those that nothing needed."""
    return tuple(told for one in found.accepted if (told := stale(found, one)) is not None)


def unlike_locked(found: GateResult) -> tuple[str, ...]:
    """The rows that came to something else than when they were locked, and whether the question is another one."""
    asked = f"{found.file}: asks otherwise than when it was locked; if that is meant: wirecheck lock"
    return (asked,) * (found.asked_as_locked is False) + tuple(
        f"{row.name}: not what the lock says of it: something is asked, or this machine answers, otherwise"
        for row in found.rows
        if row.as_locked is False and not _pinned_otherwise(row)
    )


def _pinned_otherwise(row: GateRow) -> bool:
    """Whether other bytes or versions than the locked ones are found, which says enough."""
    findings = row.result.findings if row.result else ()
    return any(one.code in ("WGT13", "ENV01") and one.severity is Severity.BLOCK for one in findings)


def stale(found: GateResult, one: GateAcceptance) -> str | None:
    """What is to be said of one acceptance; None where nothing is."""
    if one.state == "expired":
        return f"acceptance expired on {one.until}: {one.code} on {one.on} ({one.reason})"
    if one.state == "unused" and found.status == "finished":
        return f"acceptance that nothing needed: {one.code} on {one.on} ({one.reason}); take it out"
    return None
