"""What two results rest on and do not have in common: models, settings, seed, versions, and the sources of a claim.

A line says what differs, never that it made the change: a folder's digest is over all that was read of it, and tells
that something in it is another, not what.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from wirecheck.difference_records import Cause
from wirecheck.record import same
from wirecheck.schema import CheckedModel, Crashed, PairResult, ProbeRun, Ran, Record, Scalar, Subject
from wirecheck.snapshot import short

_Side = Literal["a", "b"]
NOTHING = "nothing that is recorded of it differs: model, settings, seed, versions"
_COMMIT = re.compile(r"@((?:sha256:)?[0-9a-f]{7,64})\b")
_SHOWN_KEYS = 8
_MODEL_FIELDS = ("ref", "name", "kind", "revision", "commit")
_TABLES: tuple[Literal["wire", "train", "policy"], ...] = ("wire", "train", "policy")


@dataclass(frozen=True)
class Grounds:
    """Two results of the same kind, and what differs in what they rest on."""

    old: PairResult
    new: PairResult
    a: str = "a"
    """What causes call the first model."""
    b: str = "b"

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Models first, then settings and seed, then versions."""
        return (*self._models(("a", "b")), *self._otherwise())

    def why(
        self, subject: Subject, probe: str | None = None, *, before: Sequence[str] = (), after: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """What differs in what a claim of that subject rests on, a line each; NOTHING where nothing does.

        `before` and `after` are the sources of the claim in the two results.
        """
        lines = [] if probe is None else list(self._ended(subject, probe))
        read = list(self._sources(subject, before, after))
        if probe is not None:
            told = set(self._sources(subject, [*map(_file, before)], [*map(_file, after)]))
            read += self._facts(subject, probe, told)
        models = list(self._models(_sides(subject)))
        read += [
            f"{cause.key.removesuffix('.commit')} read at {_cut(cause.new)} instead of {_cut(cause.old)}"
            for cause in models
            if cause.key.endswith(".commit") and not any(_cut(cause.new) in line for line in read)
        ]
        keys = [cause.key for cause in (*models, *self._otherwise()) if not cause.key.endswith(".commit")]
        if len(keys) > _SHOWN_KEYS:
            keys = [*keys[:_SHOWN_KEYS], f"{len(keys) - _SHOWN_KEYS} more"]
        otherwise = [f"also differs: {', '.join(keys)}"] if keys else []
        return (*lines, *read, *otherwise) or (NOTHING,)

    def _models(self, sides: Sequence[_Side]) -> Iterator[Cause]:
        for side in sides:
            old, new = _model(self.old, side), _model(self.new, side)
            for name in _MODEL_FIELDS:
                was, now = getattr(old, name, None), getattr(new, name, None)
                if was != now:
                    yield Cause(of="read", key=f"{getattr(self, side)}.{name}", old=was, new=now)

    def _otherwise(self) -> Iterator[Cause]:
        """Settings, seed and versions."""
        for table in _TABLES:
            was, now = _settings(getattr(self.old, table)), _settings(getattr(self.new, table))
            yield from _unlike("asked", was, now, f"{table}.")
        yield from _unlike("asked", {"seed": self.old.seed}, {"seed": self.new.seed})
        yield from _unlike("installed", _versions(self.old), _versions(self.new))

    def _ended(self, subject: Subject, probe: str) -> Iterator[str]:
        """How the probe behind the claim ended, where that is not as before."""
        old, new = ([run for run in result.runs if _is(run, subject, probe)] for result in (self.old, self.new))
        if [run.kind for run in old] == [run.kind for run in new]:
            return
        yield f"the probe {probe} {_how(new)} now; before it {_how(old)}"

    def _sources(self, subject: Subject, before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
        """The files of another commit among the sources, a line each; a file read for several keys is told once."""
        was, now = _places(self.old, subject, before), _places(self.new, subject, after)
        files: dict[tuple[_Side | None, str, str | None, str | None], list[str]] = {}
        for side, place in dict.fromkeys((*now, *was)):
            pair = (was.get((side, place)), now.get((side, place)))
            files.setdefault((side, place.partition("#")[0], *pair), []).append(place)
        for (side, file, old, new), places in files.items():
            shown = places[0] if len(places) == 1 else file
            shown = f"{getattr(self, side)}: {shown}" if side is not None and subject == "pair" else shown
            if old is not None and new is not None:
                if old != new:
                    yield f"{shown} at {new} instead of {old}"
            elif side is not None:
                yield from self._one_sided(side, shown, old, new)

    def _one_sided(self, side: _Side, shown: str, old: str | None, new: str | None) -> Iterator[str]:
        """What only one result read, beside the commit that its model has in the other one, where that is another."""
        model = _model(self.old if old is None else self.new, side)
        other = None if model is None else _cut(model.commit)
        if other is None or other in (old, new):
            return
        if new is not None:
            yield f"{shown} at {new}; {getattr(self, side)} was read at {other} before"
        else:
            yield f"{shown} was at {old}; {getattr(self, side)} is read at {other} now"

    def _facts(self, subject: Subject, probe: str, told: Set[str]) -> Iterator[str]:
        """Where the same probe found other facts than before, a line for each file that is not among the told."""
        old, new = (_facts_of(result, subject, probe) for result in (self.old, self.new))
        files: dict[str, list[str]] = {}
        for key in old:
            if key in new and not same(old[key][0], new[key][0]):
                for line in self._sources(subject, [_file(old[key][1])], [_file(new[key][1])]):
                    files.setdefault(line, []).append(key)
        for line, keys in files.items():
            if line not in told:
                more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
                yield f"the same probe found another {', '.join(keys[:_SHOWN_KEYS])}{more}: {line}"


def _sides(subject: Subject) -> tuple[_Side, ...]:
    return ("a", "b") if subject == "pair" else (subject,)


def _model(result: PairResult, side: _Side) -> CheckedModel | None:
    return result.a if side == "a" else result.b


def _is(run: ProbeRun, subject: Subject, probe: str) -> bool:
    return (run.subject, run.probe) == (subject, probe)


def reason(run: ProbeRun) -> str | None:
    """Why a run did not come to its end; None where it did."""
    if isinstance(run, Ran):
        return None
    return f"{run.error.type}: {run.error.message}" if isinstance(run, Crashed) else run.reason


def _how(runs: Sequence[ProbeRun]) -> str:
    """`ran`, `was skipped (…)`, `crashed (…)`, or that it was not run."""
    if not runs:
        return "was not run"
    told = {"ran": "ran", "skipped": "was skipped", "crashed": "crashed"}
    return " and ".join(told[run.kind] + (f" ({why})" if (why := reason(run)) else "") for run in runs)


def _facts_of(result: PairResult, subject: Subject, probe: str) -> Mapping[str, tuple[Scalar, str]]:
    runs = [run for run in result.runs if _is(run, subject, probe)]
    return {fact.key: (fact.value, fact.source) for run in runs for fact in run.facts if fact.subject == subject}


def place(source: str) -> str:
    """A source without its commit."""
    return _COMMIT.sub("", source)


def _file(source: str) -> str:
    """A source without its key, where it names a commit."""
    return source.partition("#")[0] if _COMMIT.search(source) else source


def _places(result: PairResult, subject: Subject, sources: Sequence[str]) -> dict[tuple[_Side | None, str], str]:
    """The model whose commit a source names, and the source without it -> the commit."""
    found: dict[tuple[_Side | None, str], str] = {}
    for source in sources:
        named = _COMMIT.search(source)
        if named:
            models = {side: _model(result, side) for side in _sides(subject)}
            sides = [side for side, model in models.items() if model is not None and _cut(model.commit) == named[1]]
            found[sides[0] if sides else None, place(source)] = named[1]
    return found


def _cut(commit: Scalar) -> str:
    """A commit as long as sources show it."""
    return short(str(commit or "none"))


def _settings(record: Record) -> Mapping[str, Scalar]:
    """Field -> value; what is no scalar as JSON, so that two values never read alike."""
    fields = record.model_dump(mode="json")
    return {name: json.dumps(one, ensure_ascii=False) if isinstance(one, list) else one for name, one in fields.items()}


def _versions(result: PairResult) -> Mapping[str, Scalar]:
    held = result.environment
    return {"python": held.python, "platform": held.platform} | dict(held.packages)


def _unlike(
    of: Literal["asked", "installed"], old: Mapping[str, Scalar], new: Mapping[str, Scalar], prefix: str = ""
) -> Iterator[Cause]:
    for key in dict.fromkeys((*old, *new)):
        if not same(old.get(key), new.get(key)):
            yield Cause(of=of, key=prefix + key, old=old.get(key), new=new.get(key))
