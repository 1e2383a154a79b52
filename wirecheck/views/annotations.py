"""A gate for GitHub Actions: workflow commands that make annotations, and the summary of a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from wirecheck.baseline import NEWS, Since, heard, is_known
from wirecheck.gate_records import GateResult
from wirecheck.gate_troubles import Trouble, Weight
from wirecheck.views import gate as view
from wirecheck.views import since as news
from wirecheck.views.whereabouts import Whereabouts
from wirecheck.views.words import visible

MOST = 10
"""Errors, and warnings, that GitHub shows of one step."""
MOST_SUMMARY_BYTES = 2**20
"""Of the summary of one step: GitHub refuses a longer one as a whole."""
_MOST_TITLE, _MOST_MESSAGE = 200, 4000
"""Characters; GitHub takes 255, and 64 KiB."""
_CUT = "\n\n*The report is cut here, at the 1 MiB that GitHub shows of a step: `--report gate.md` writes all of it.*\n"


def render(found: GateResult, where: Whereabouts, since: Since | None = None) -> str:
    """Workflow commands, one a line: what blocks, what warns, and the outcome. With a baseline, only what is new."""
    told = [one for one, state in heard(found, since) if state in NEWS]
    errors = [_annotation("error", group, where) for group in _groups(told, "refuses")]
    warnings = [_annotation("warning", group, where) for group in _groups(told, "warns")]
    warnings += _stale(found, where, since)
    outcome = [view.sentence(found), *([] if since is None else [news.headline(found, since)])]
    notice = _command("notice", where.path, 1, f"wirecheck gate: {found.outcome.replace('-', ' ')}", outcome)
    return "".join(f"{line}\n" for line in (*_limited(errors), *_limited(warnings), notice))


def summary(report: str, room: int) -> str:
    """As much of a markdown report as goes into `room` bytes, and where it is cut, a sentence that says so."""
    whole = report.encode()
    if len(whole) <= room:
        return report
    kept = whole[: max(room - len(_CUT.encode()), 0)]
    kept = kept[: kept.rfind(b"\n") + 1]
    return kept.decode() + _CUT if kept else ""


def _groups(told: Iterable[Trouble], weight: Weight) -> Sequence[Sequence[Trouble]]:
    """What one annotation tells: the same finding in several pairs, or all that is open on one model."""
    groups: dict[tuple[object, ...], list[Trouble]] = {}
    for one in told:
        if one.weight == weight:
            claim = None if one.finding is None else (one.claim, one.remedy)
            groups.setdefault((one.models, one.code, claim), []).append(one)
    return list(groups.values())


def _annotation(kind: str, group: Sequence[Trouble], where: Whereabouts) -> str:
    first = group[0]
    title = f"{first.name}: {first.on}" if first.finding is None else f"{first.code} {first.name}: {first.on}"
    claims = list(dict.fromkeys(one.claim for one in group))
    rows = dict.fromkeys(one.row for one in group)
    lines = [claims[0], *([f"and {len(claims) - 1} more"] if claims[1:] else [])]
    lines += [f"in {', '.join(rows)}"] if list(rows) != [first.on] else []
    lines += [f"remedy: {first.remedy}"] if first.remedy else []
    return _command(kind, where.path, where.of(first), title, lines)


def _stale(found: GateResult, where: Whereabouts, since: Since | None) -> Iterator[str]:
    for number, one in enumerate(found.accepted):
        told = view.stale(found, one)
        if told is not None and not is_known(one, since):
            title = f"acceptance {one.state}: {one.code} on {one.on}"
            yield _command("warning", where.path, where.of_acceptance(number), title, [told])


def _limited(commands: Sequence[str]) -> Sequence[str]:
    """At most as many as GitHub shows; the last one counts the others."""
    if len(commands) <= MOST:
        return commands
    return [*commands[: MOST - 1], f"{commands[MOST - 1]}%0Aand {len(commands) - MOST} more, in the report"]


def _command(kind: str, path: str, line: int, title: str, message: Iterable[str]) -> str:
    """One workflow command, on one line whatever it holds."""
    properties = {"file": path, "line": str(line), "title": _short(title, _MOST_TITLE)}
    told = ",".join(f"{key}={_property(visible(value))}" for key, value in properties.items())
    text = _data("\n".join(visible(_short(part, _MOST_MESSAGE)) for part in message))
    return f"::{kind} {told}::{text}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
