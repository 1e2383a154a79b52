"""The pictures of one result: the ladder of evidence, memory, and what the same texts come to in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wirecheck.schema import PairResult, Subject
from wirecheck.views import pictures_phases, pictures_timeline, story
from wirecheck.views.pictures import LINE, TEXT, WIDTH, Fill, Picture, Sheet, cut, sheet, width_of
from wirecheck.views.words import ABSENT, plural, visible

_TEXTS = "sample_tokens_"
"""How the keys of facts begin that count the tokens of a text; the kind of text follows."""


def of_result(result: PairResult) -> tuple[Picture, ...]:
    """Those that the result has figures for, in the order of a report."""
    made = [ladder(result)]
    if result.memory is not None:
        made.append(pictures_phases.phases(result.memory))
        if result.memory.timeline is not None:
            made.append(pictures_timeline.over_time(result.memory.timeline))
    made.append(tokens(result))
    return tuple(one for one in made if one is not None)


# --- the ladder --------------------------------------------------------------------------------------------------

_SIDES: dict[Subject, str] = {"a": "a-mid", "b": "b-mid", "pair": "wire-mid"}
_RUNG = 52
"""Units from one rung to the next."""
_NAMES = 112
"""Units of the names of the rungs."""


def ladder(result: PairResult) -> Picture | None:
    """The rungs down, the subjects across: how much of each is settled; None where nothing was asked.

    None of an unfinished check either, which does not know how much there is to settle.
    """
    if result.status != "finished":
        return None
    subjects: list[Subject] = [subject for subject, _ in story.sides(result)]
    subjects += ["pair"] if any(run.subject == "pair" for run in result.runs) else []
    found = {subject: story.ladder_of(result, subject) for subject in subjects}
    rungs = story.ladder(result)
    if not any(rung.total for rung in rungs):
        return None
    names = [f"{side.upper()}: {cut(model.name, WIDTH - 30)}" for side, model in story.sides(result)]
    head = LINE * len(names) + 30
    wide = (WIDTH - _NAMES) / len(subjects)
    with sheet("ladder", head + _RUNG * len(rungs)) as drawn:
        for row, name in enumerate(names):
            drawn.text(0, row * LINE + TEXT, name, tone="mute")
        for column, subject in enumerate(subjects):
            drawn.text(_NAMES + column * wide, head - 6, "pair" if subject == "pair" else subject.upper(), bold=True)
        for row, rung in enumerate(rungs):
            y = head + row * _RUNG
            drawn.line([0, WIDTH], [y, y], "line")
            drawn.text(0, y + 22, str(rung.level), bold=rung.level is result.policy.required)
            if rung.level is result.policy.required:
                drawn.text(0, y + 41, "required", tone="mute")
            for column, subject in enumerate(subjects):
                own = found[subject][row]
                _pill(drawn, (_NAMES + column * wide, y, wide - 16), own, subject)
        return drawn.finish("How far the evidence goes", _told(result, found))


def _pill(drawn: Sheet, place: tuple[float, float, float], rung: story.Rung, subject: Subject) -> None:
    x, y, wide = place
    if not rung.total:
        drawn.text(x, y + 22, ABSENT, tone="mute")
        return
    drawn.text(x, y + 22, f"{rung.settled} of {rung.total}")
    left, right, middle = x + 5, x + wide - 5, y + 36
    drawn.line([left, right], [middle, middle], "line", 10, solid_capstyle="round")
    if rung.settled:
        end = left + (right - left) * rung.settled / rung.total
        filled = drawn.line([left, end], [middle, middle], _SIDES[subject], 10, solid_capstyle="round")
        drawn.tag(filled, subject=subject, level=rung.level, settled=rung.settled, total=rung.total)


def _told(result: PairResult, found: dict[Subject, tuple[story.Rung, ...]]) -> str:
    said = []
    for subject, rungs in found.items():
        whose = "The pair" if subject == "pair" else f"{subject.upper()}, {story.subject_name(result, subject)}"
        told = ", ".join(f"{one.level} {one.settled} of {one.total}" for one in rungs if one.total)
        said.append(f"{whose}: {told or 'no question'}.")
    return f"Settled questions on each rung, “{result.policy.required}” being required. {' '.join(said)}"


# --- tokens ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Text:
    kind: str
    counts: tuple[tuple[Subject, int], ...]


def _texts(result: PairResult) -> tuple[_Text, ...]:
    """The texts of which some model's tokens were counted, in the order of the facts."""
    facts = [fact for run in result.runs for fact in run.facts if fact.key.startswith(_TEXTS)]
    found = []
    for key in dict.fromkeys(fact.key for fact in facts):
        of = [(subject, result.fact(subject, key)) for subject, _ in story.sides(result)]
        counts = [(s, f.value) for s, f in of if f is not None and isinstance(f.value, int) and f.value >= 0]
        if counts:
            found.append(_Text(visible(key.removeprefix(_TEXTS).replace("_", " ")), tuple(counts)))
    return tuple(found)


_SPELT = {"english", "german", "french", "russian", "chinese", "japanese", "arabic", "hindi"}


def _kind(text: _Text) -> str:
    return text.kind.capitalize() if text.kind in _SPELT else text.kind


def tokens(result: PairResult) -> Picture | None:
    """Tokens of each model for the same texts, grouped bars; None where they were not counted."""
    texts = _texts(result)
    if not texts:
        return None
    most = max(1, *(count for text in texts for _, count in text.counts))
    fills: dict[Subject, Fill] = {"a": Fill("a-mid"), "b": Fill("b-mid", "//")}
    names = [(fills[side], f"{side.upper()}: {cut(model.name, WIDTH - 50)}") for side, model in story.sides(result)]
    left = min(150.0, max(width_of(_kind(text)) for text in texts) + 12)
    room = WIDTH - left - width_of(f"{most:,}") - 8
    head, thick = LINE * len(names) + 12, 17
    group = thick * len(names) + 13
    with sheet("tokens", head + group * len(texts)) as drawn:
        for row, (fill, name) in enumerate(names):
            drawn.rectangle(0, row * LINE + 3, 14, 13, fill)
            drawn.text(20, row * LINE + TEXT + 1, name)
        for number, text in enumerate(texts):
            y = head + number * group
            drawn.text(0, y + thick * len(names) / 2 + 5, cut(_kind(text), left - 8))
            for row, (side, count) in enumerate(text.counts):
                at, long = y + row * thick, room * count / most
                drawn.rectangle(left, at, long, thick - 2, fills[side], text=text.kind, subject=side, tokens=count)
                drawn.text(left + long + 6, at + 13, f"{count:,}", tone="mute")
        drawn.line([left, left], [head - 2, head + group * len(texts) - 10], "mute")
        return drawn.finish("Tokens for the same texts", _told_tokens(result, texts))


def _told_tokens(result: PairResult, texts: Sequence[_Text]) -> str:
    names = " and ".join(f"{side.upper()} ({model.name})" for side, model in story.sides(result))
    ranked = sorted(texts, key=lambda text: -max(count for _, count in text.counts))
    told = []
    for text in ranked:
        counts = " and ".join(f"{side.upper()} {plural(count, 'token')}" for side, count in text.counts)
        told.append(f"{_kind(text)} {counts}")
    return f"Tokens of {names} for the same texts: {'; '.join(told)}."
