"""What an earlier report said of these models, read from a file: a result of wirecheck's, or figures written down."""

from __future__ import annotations

import difflib
import math
import tomllib
from pathlib import Path
from typing import Any

from wirecheck.bounded_text import bounded_text
from wirecheck.cli_output import read_result
from wirecheck.errors import UsageError
from wirecheck.expectations import KNOWN_KEYS
from wirecheck.schema import Claim, PairResult, Subject
from wirecheck.views import story
from wirecheck.views.claims import MEMORY, VERDICT
from wirecheck.views.evidence import figures

SUBJECTS: tuple[Subject, ...] = ("a", "b", "pair")
_FORM = 'tables [a], [b], [pair] of figures, such as vocab_size = 128256, and a line source = "who said so"'


def claims_of(path: Path, result: PairResult) -> tuple[Claim, ...]:
    """The claims of that file on the models of `result`, whose probes need not have run. Raises UsageError."""
    if path.suffix.lower() == ".json":
        return _of_result(path, read_result(path), result)
    return _written_down(path, result)


def _of_result(path: Path, old: PairResult, new: PairResult) -> tuple[Claim, ...]:
    """What an earlier result established: of the models that are in both; of the pair, where it is the same pair and
    the same wire; of the step, where it is the same step; its verdict, where it was finished and as much was required.
    """
    sides = _matched(path, old, new)
    is_whole = (old.b is None) == (new.b is None) and all(here == there for there, here in sides.items())
    is_whole = is_whole and len(sides) == len(story.sides(new))
    if is_whole and new.b is not None and old.wire == new.wire:
        sides["pair"] = "pair"
    source = f"{path.name}, a result of wirecheck"
    facts = [figure.fact for figure in figures(old) if figure.fact.subject in sides]
    made = [Claim(subject=sides[fact.subject], key=fact.key, value=fact.value, source=source) for fact in facts]
    whole = _whole(new)
    as_much = (old.policy.required, old.policy.strict) == (new.policy.required, new.policy.strict)
    if is_whole and as_much and old.status == "finished":
        made.append(Claim(subject=whole, key=VERDICT, value=str(old.verdict.outcome), source=source))
    if is_whole and old.memory is not None and (old.wire, old.train) == (new.wire, new.train):
        made.append(Claim(subject=whole, key=MEMORY, value=old.memory.allocated_bytes, source=source))
    return tuple(made)


def _matched(path: Path, old: PairResult, new: PairResult) -> dict[Subject, Subject]:
    """Side there -> side here, by the models' names; two of one name are told apart by their order. UsageError."""
    names = [model.name for _, model in story.sides(new)]
    there = [model.name for _, model in story.sides(old)]
    if there == names:
        return {side: side for side, _ in story.sides(old)}
    doubled = next((name for name in names if names.count(name) > 1 or there.count(name) > 1), None)
    if doubled is not None and doubled in there:
        raise UsageError(
            f"--claim {path}: {doubled} is the name of two models, and which is meant cannot be told",
            next_step="name a result of this very pair",
        )
    here = {model.name: side for side, model in story.sides(new)}
    sides: dict[Subject, Subject] = {side: here[model.name] for side, model in story.sides(old) if model.name in here}
    if not sides:
        raise UsageError(
            f"--claim {path}: it is about {' and '.join(there)}, not checked here",
            next_step=f"name a report of {' or '.join(names)}",
        )
    return sides


def _whole(result: PairResult) -> Subject:
    """Under which name stands what is said of the whole."""
    return "a" if result.b is None else "pair"


def _written_down(path: Path, result: PairResult) -> tuple[Claim, ...]:
    try:
        tables = tomllib.loads(bounded_text(path))
    except OSError as error:
        raise UsageError(
            f"--claim {path}: {error.strerror or error}", next_step="name a .json or a .toml file"
        ) from None
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, or deep nesting
        raise UsageError(f"--claim {path}: not TOML: {error}", next_step=f"write {_FORM}") from None
    source = tables.pop("source", path.name)
    known: tuple[Subject, ...] = ("a",) if result.b is None else SUBJECTS
    strange = sorted(set(tables) - set(known))
    if strange or not isinstance(source, str) or not source or not all(isinstance(x, dict) for x in tables.values()):
        what = f"{strange[0]} is none of {', '.join(known)}, which are here" if strange else "that is not its form"
        raise UsageError(f"--claim {path}: {what}", next_step=f"write {_FORM}")
    made = []
    for subject in known:
        for key, value in tables.get(subject, {}).items():
            if key in (MEMORY, VERDICT) and subject != _whole(result):
                raise UsageError(f"--claim {path}: {key} is of the pair", next_step=f"put it under [{_whole(result)}]")
            made.append(_claim(path, subject, key, value, source))
    return tuple(made)


def _claim(path: Path, subject: Subject, key: str, value: Any, source: str) -> Claim:
    if subject != "pair" and key not in KNOWN_KEYS | {MEMORY, VERDICT}:
        near = difflib.get_close_matches(key, KNOWN_KEYS, n=1, cutoff=0.5)
        known = f"did you mean {near[0]}?" if near else f"one of {', '.join(sorted(KNOWN_KEYS))}"
        raise UsageError(f"--claim {path}: [{subject}] {key} is no figure that a probe establishes", next_step=known)
    if not key:
        raise UsageError(f"--claim {path}: [{subject}] has a figure without a name", next_step=f"write {_FORM}")
    if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
        raise UsageError(
            f"--claim {path}: [{subject}] {key} is no number, text or yes-or-no", next_step=f"write {_FORM}"
        )
    return Claim(subject=subject, key=key, value=value, source=source)
