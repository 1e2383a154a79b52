"""What changed between two results, as markdown and HTML, and as the words and cells that a terminal shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wirecheck.difference_records import (
    Difference,
    Ended,
    FactChange,
    FactTold,
    FigureChange,
    FindingChange,
    RowDifference,
    Standing,
    Told,
)
from wirecheck.schema import Scalar, Severity, Subject
from wirecheck.views import html, story, templates
from wirecheck.views.words import ABSENT, human, human_bytes, plural

NOTHING = "Nothing that is compared differs."
NOT_THERE = "not there"
_LEAST_SHARE = 0.05
"""Percent that would be shown as 0.0."""


def render(difference: Difference) -> str:
    """The difference as GitHub-flavoured markdown: same input, same bytes."""
    return templates.environment().get_template("diff.md.j2").render(diff=difference, view=View(difference))


def render_html(difference: Difference) -> str:
    """The difference as one self-contained page."""
    view = View(difference)
    mood = "incompatible" if difference.is_worse else "unproven"
    if difference.new.outcome == "compatible" and not difference.is_worse:
        mood = "compatible"
    return html.page(render(difference), title=view.title, mood=mood)


def exit_code(difference: Difference) -> int:
    """1 where the new result, or a row of it, is worse, or a row is gone; else 0."""
    return 1 if difference.is_worse else 0


@dataclass(frozen=True)
class Moved:
    """A figure before and after, as words, and how far it moved."""

    name: str
    old: str
    new: str
    more: str


@dataclass(frozen=True)
class View:
    """What the faces of a difference tell."""

    difference: Difference
    DIGESTS: ClassVar[str] = (
        "A digest (sha256) is over all that was read of a folder or file: it tells that something in there is another, "
        "not what."
    )
    UNCOMPARED: ClassVar[str] = "One of the two has no result here: only what they came to is compared."

    @property
    def title(self) -> str:
        """The page's title."""
        return f"wirecheck diff: {'worse' if self.difference.is_worse else 'not worse'}"

    @property
    def sentence(self) -> str:
        """What it comes to, in one sentence or two."""
        diff = self.difference
        said = [self._gate() if diff.kind == "gate" else self._pair()]
        if diff.is_empty:
            said.append(NOTHING)
        elif not diff.rows:
            said.append("Nothing came out otherwise, though what was asked, read or installed differs.")
        said += [
            f"The {which} result is {whole.status}, not finished: what it lacks may be missing for that alone."
            for which, whole in (("old", diff.old), ("new", diff.new))
            if whole.status != "finished"
        ]
        return " ".join(said)

    def _pair(self) -> str:
        diff = self.difference
        name = next((row.name for row in diff.rows), None) or next(iter(diff.same), "")
        head = f"{name}: {changed(diff.old.outcome, diff.new.outcome)}."
        return " ".join([head, *(self.counts(row) for row in diff.rows)])

    def _gate(self) -> str:
        diff = self.difference
        head = f"{diff.new.file}: {changed(diff.old.outcome, diff.new.outcome)}"
        worse = [row.name for row in diff.rows if row.is_worse and row.new is not None]
        gone = [row.name for row in diff.rows if row.new is None]
        fresh = [row.name for row in diff.rows if row.old is None]
        told = [f"{len(diff.rows)} of {plural(len(diff.rows) + len(diff.same), 'row')} not as before"]
        lists = (("worse", worse), ("gone", gone), ("new", fresh))
        told += [f"{word}: {', '.join(rows)}" for word, rows in lists if rows]
        return f"{head}; {'; '.join(told)}."

    @staticmethod
    def counts(row: RowDifference) -> str:
        """`Changed: 2 findings, 1 fact.`; what is not counted is the verdict, which has lines of its own."""
        figures = row.memory.figures if row.memory else ()
        counted = ((row.runs, "probe"), (row.findings, "finding"), (row.facts, "fact"), (figures, "figure"))
        told = [plural(len(changes), noun) for changes, noun in counted if changes]
        told = [f"{one} of memory" if one.endswith(("figure", "figures")) else one for one in told]
        return f"Changed: {', '.join(told)}." if told else ""

    @property
    def causes(self) -> tuple[tuple[str, str, str, str, str], ...]:
        """(of what, key, before, after, rows) of all that differs in what was asked, read and installed."""
        return tuple(
            (cause.of, cause.key, *two(cause.old, cause.new), ", ".join(cause.rows)) for cause in self.difference.causes
        )

    @property
    def has_digests(self) -> bool:
        """Whether a digest of a folder or file is among the causes."""
        return any(str(one).startswith("sha256:") for cause in self.difference.causes for one in (cause.old, cause.new))

    @staticmethod
    def head(row: RowDifference) -> str:
        """`compatible → incompatible`, or what it is throughout."""
        old, new = (NOT_THERE if one is None else one.outcome for one in (row.old, row.new))
        return changed(old, new)

    @staticmethod
    def verdict(row: RowDifference) -> tuple[tuple[str, str], ...]:
        """(sign, line): how strength and reasons are not what they were."""
        lines = []
        old, new = row.old, row.new
        if old is not None and new is not None and old.status != new.status:
            lines.append(("~", f"status: {old.status or 'no result'} → {new.status or 'no result'}"))
        if old is not None and new is not None and old.strength != new.strength:
            lines.append(("~", f"stands on: {old.strength or 'nothing'} → {new.strength or 'nothing'}"))
        was, now = _because(old), _because(new)
        lines += [("-", line) for line in was if line not in now]
        lines += [("+", line) for line in now if line not in was]
        return tuple(lines)

    @staticmethod
    def subject(row: RowDifference, subject: Subject) -> str:
        """The letter, or a gate's name for the model; or `pair`."""
        return {"a": row.a, "b": row.b or "b", "pair": "pair"}[subject]

    @staticmethod
    def findings(row: RowDifference) -> tuple[FindingChange, ...]:
        """The gravest first, as they are now or were."""
        return tuple(sorted(row.findings, key=lambda one: story.ORDER.index(gravest(one))))

    @staticmethod
    def severities(change: FindingChange) -> str:
        """`new block`, `gone note`, `ok → warn`, or the severity it keeps."""
        old, new = change.old, change.new
        if old is None or new is None:
            return f"new {new.severity}" if new else f"gone {old.severity}" if old else ""
        return str(new.severity) if old.severity == new.severity else f"{old.severity} → {new.severity}"

    @staticmethod
    def claims(change: FindingChange) -> tuple[tuple[str, str], ...]:
        """(sign, claim): the old and the new one, or the one that both have."""
        old, new = change.old, change.new
        if old and new and old.claim == new.claim:
            rung = f" (rests on {new.level}, before on {old.level})" if old.level != new.level else ""
            return ((" ", new.claim + rung),)
        return tuple((sign, told.claim) for sign, told in (("-", old), ("+", new)) if told is not None)

    @staticmethod
    def ended(ended: Ended | None) -> str:
        """`ran`, `skipped: why`, `crashed: the error`, or that it was not run."""
        if ended is None:
            return "not run"
        return ended.kind if ended.reason is None else f"{ended.kind}: {ended.reason}"

    @staticmethod
    def fact(change: FactChange) -> tuple[str, str]:
        """Before and after; with the rung where it is the rung that differs."""
        old, new = change.old, change.new
        if old and new and _alike(old.value, new.value):
            return f"{_established(old)} ({old.level})", f"{_established(new)} ({new.level})"
        shown = _established(old), _established(new)
        return two(old.value, new.value) if old and new and shown[0] == shown[1] else shown

    @staticmethod
    def figures(row: RowDifference) -> tuple[Moved, ...]:
        """The figures of memory that differ."""
        return tuple(map(_moved, row.memory.figures)) if row.memory else ()


def changed(old: str, new: str) -> str:
    """`compatible → incompatible`, or `compatible, as before`."""
    return f"{new}, as before" if old == new else f"{old} → {new}"


def gravest(change: FindingChange) -> Severity:
    """The graver of what it was and is."""
    told: list[Told] = [one for one in (change.old, change.new) if one is not None]
    return min((one.severity for one in told), key=story.ORDER.index)


def two(old: Scalar, new: Scalar) -> tuple[str, str]:
    """Both as a reader expects them; where they would read alike, in full."""
    shown = _value(old), _value(new)
    return shown if shown[0] != shown[1] else (repr(old), repr(new))


def _alike(old: Scalar, new: Scalar) -> bool:
    """Equality of value and kind: true is not 1."""
    return old == new and isinstance(old, bool) == isinstance(new, bool)


def _value(value: Scalar) -> str:
    return '""' if value == "" else human(value)


def _because(standing: Standing | None) -> tuple[str, ...]:
    return () if standing is None else standing.because


def _established(fact: FactTold | None) -> str:
    return "not established" if fact is None else "none" if fact.value is None else _value(fact.value)


def _moved(figure: FigureChange) -> Moved:
    old, new = (_figure(figure, value) for value in (figure.old, figure.new))
    if figure.more is None:
        return Moved(figure.name, old, new, ABSENT)
    more = f"{'+' if figure.more > 0 else ''}{human_bytes(figure.more)}"
    return Moved(figure.name, old, new, more + _percent(figure))


def _percent(figure: FigureChange) -> str:
    """How many percent more; nothing where there was nothing, or what is left over turned from a lack to a rest."""
    if figure.more is None or not isinstance(figure.old, int) or figure.old <= 0:
        return ""
    percent = 100 * figure.more / figure.old
    if abs(percent) < _LEAST_SHARE:
        return ", less than 0.1 %"
    return f", {percent:+.1f} %"


def _figure(figure: FigureChange, value: Scalar) -> str:
    if value is None:
        return ABSENT
    if figure.unit == "bytes" and isinstance(value, int):
        return human_bytes(value)
    if figure.unit == "share" and isinstance(value, int | float):
        return f"± {100 * value:.3g} %"
    return human(value)
