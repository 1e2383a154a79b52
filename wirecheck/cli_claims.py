"""What an earlier report said of these models, read from a file: a result of wirecheck's, or figures written down."""

from __future__ import annotations

import difflib
import math
import tomllib
from pathlib import Path
from typing import Any

from wirecheck.cli_output import read_result
from wirecheck.errors import UsageError
from wirecheck.expectations import KNOWN_KEYS
from wirecheck.schema import Claim, PairResult, Subject
from wirecheck.views.claims import MEMORY, VERDICT

SUBJECTS: tuple[Subject, ...] = ("a", "b", "pair")
_FORM = 'tables [a], [b], [pair] of figures, such as vocab_size = 128256, and a line source = "who said so"'


def claims_of(path: Path, result: PairResult) -> tuple[Claim, ...]:
    """The claims of that file on the models of `result`. Raises UsageError."""
    if path.suffix.lower() == ".json":
        return _of_result(path, read_result(path), result)
    return _written_down(path)


def with_claims(result: PairResult, path: Path | None) -> PairResult:
    """The result with those of the file, if one is named. Raises UsageError."""
    return result if path is None else result.model_copy(update={"claims": claims_of(path, result)})


def check_claims(path: Path) -> None:
    """Raise UsageError where the file holds no claims: said before anything is run."""
    if path.suffix.lower() == ".json":
        read_result(path)
    else:
        _written_down(path)


def _of_result(path: Path, old: PairResult, new: PairResult) -> tuple[Claim, ...]:
    """What an earlier result established, of the models that are in both; of the pair, where it is the same pair."""
    here = {model.name: side for side, model in _sides(new)}
    sides: dict[Subject, Subject] = {side: here[model.name] for side, model in _sides(old) if model.name in here}
    if not sides:
        names = " and ".join(model.name for _, model in _sides(old))
        raise UsageError(
            f"--claim {path}: it is about {names}, and neither is checked here",
            next_step="name a report of a model here",
        )
    is_pair = old.b is not None and len(sides) == 2 and list(sides.values()) == list(sides)  # noqa: PLR2004
    source = f"{path.name}, a result of wirecheck"
    made = []
    for run in old.runs:
        for fact in run.facts:
            side = sides.get(fact.subject, "pair" if is_pair and fact.subject == "pair" else None)
            if side is not None and old.fact(fact.subject, fact.key) is fact:
                made.append(Claim(subject=side, key=fact.key, value=fact.value, source=source))
    if is_pair or (old.b is None and new.b is None):
        whole: Subject = "pair" if is_pair else "a"
        made.append(Claim(subject=whole, key=VERDICT, value=str(old.verdict.outcome), source=source))
        if old.memory is not None:
            made.append(Claim(subject=whole, key=MEMORY, value=old.memory.allocated_bytes, source=source))
    return tuple(made)


def _sides(result: PairResult) -> list[tuple[Subject, Any]]:
    return [("a", result.a)] if result.b is None else [("a", result.a), ("b", result.b)]


def _written_down(path: Path) -> tuple[Claim, ...]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"--claim {path}: {error.strerror or error}", next_step="name a .json or a .toml file"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--claim {path}: not TOML: {error}", next_step=f"write {_FORM}") from None
    source = tables.pop("source", path.name)
    strange = sorted(set(tables) - set(SUBJECTS))
    if (
        strange
        or not isinstance(source, str)
        or not source
        or not all(isinstance(one, dict) for one in tables.values())
    ):
        what = f"{strange[0]} is none of its tables" if strange else "that is not its form"
        raise UsageError(f"--claim {path}: {what}", next_step=f"write {_FORM}")
    return tuple(
        _claim(path, subject, key, value, source)
        for subject in SUBJECTS
        for key, value in tables.get(subject, {}).items()
    )


def _claim(path: Path, subject: Subject, key: str, value: Any, source: str) -> Claim:
    if subject != "pair" and key not in KNOWN_KEYS | {MEMORY, VERDICT}:
        near = difflib.get_close_matches(key, KNOWN_KEYS, n=1, cutoff=0.5)
        known = f"did you mean {near[0]}?" if near else f"one of {', '.join(sorted(KNOWN_KEYS))}"
        raise UsageError(f"--claim {path}: [{subject}] {key} is no figure that a probe establishes", next_step=known)
    if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
        raise UsageError(
            f"--claim {path}: [{subject}] {key} is no number, text or yes-or-no", next_step=f"write {_FORM}"
        )
    return Claim(subject=subject, key=key, value=value, source=source)
