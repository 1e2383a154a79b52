"""What the children of a command computed in a run that met no fault, answered again in a run that meets one.

Of a run on a disk that fails, most of the time goes to what children compute, which is the same in every run. Where the
write that is refused is none of a child's, the child is begun, confined, listened to and ended as ever, and instead of
computing says what it said before. Where the disk fails in it, or has failed for good, it computes. `fit`'s child has
children of its own, whose work writes nothing: they answer again wherever the fault is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wirecheck import fit, fit_apart, fit_curves, matrix, supervision
from wirecheck.fork_pool import Answered, Died
from wirecheck.isolated_child import RECORDS, Line, Yielded
from wirecheck.isolation import isolated
from wirecheck.runner import Check

if TYPE_CHECKING:
    from tests.faultline import Disk

_RUN = matrix.Local.run


def install(disk: Disk, folder: Path) -> None:
    """From now on, in this process: a run without a fault keeps in `folder` what its children say, others say it."""
    kept = Kept(disk, folder)
    supervision.isolated = fit_apart.isolated = kept.isolated
    matrix.Local.run = lambda local, names, work, *, limit_s: kept.run(local, names, work, limit_s)


@dataclass
class Kept:
    """What is kept, and the disk that tells where the fault is."""

    disk: Disk
    folder: Path

    def isolated(self, work: Any, seconds: float, **how: Any) -> Iterator[Yielded]:
        """As `isolation.isolated`."""
        key, begin, is_fit = _key_of_check(work), self.disk.count, not hasattr(work, "check")
        lines = self._lines(key, anywhere=is_fit)
        if lines is None:
            said = []
            for item in isolated(work, seconds, **how):
                said.append(f"{type(item).__name__} {item.model_dump_json()}")
                yield item
            self._keep(key, said, begin)
        elif is_fit:
            yield from isolated(FitAgain(work, tuple(map(_read, lines))), seconds, **how)
        else:
            yield from isolated(Again(work, tuple(map(_read, lines))), seconds, **how)
            self._went_on(key, begin)

    def run(self, local: matrix.Local, names: Sequence[str], work: Any, limit_s: float) -> Iterator[Answered | Died]:
        """As `matrix.Local.run`."""
        key, begin = _digest(type(work).__name__, *names), self.disk.count
        lines = self._lines(key)
        if lines is None:
            said = []
            for ended in _RUN(local, names, work, limit_s=limit_s):
                said += [json.dumps([ended.name, ended.text])] if isinstance(ended, Answered) else []
                yield ended
            self._keep(key, said, begin)
        else:
            again = Texts(dict(map(json.loads, lines)), work.runs_code_of_the_user)
            yield from _RUN(local, names, again, limit_s=limit_s)
            self._went_on(key, begin)

    def _keep(self, key: str, lines: Sequence[str], begin: int) -> None:
        """What the run without a fault said, and how many calls it took. None of them is the command's own write."""
        if self.disk.at is None:
            text = "\n".join([str(self.disk.count - begin), *lines])
            self.disk.put_aside(self.folder / key, text.encode())

    def _lines(self, key: str, *, anywhere: bool = False) -> list[str] | None:
        """What was said; None where it has to be computed."""
        at, begin = self.disk.at, self.disk.count
        if at is None or (calls := self._calls(key)) is None:
            return None
        is_before, is_after = at <= begin, at > begin + calls
        is_elsewhere = is_after or (is_before and not self.disk.lasts)
        return self._text(key)[1:] if is_elsewhere or anywhere else None

    def _went_on(self, key: str, begin: int) -> None:
        """The calls that were not made are counted all the same."""
        self.disk.count = begin + (self._calls(key) or 0)

    def _calls(self, key: str) -> int | None:
        text = self._text(key)
        return int(text[0]) if text else None

    def _text(self, key: str) -> list[str]:
        with suppress(FileNotFoundError):
            return (self.folder / key).read_text(encoding="utf-8").split("\n")
        return []


def _key_of_check(work: Any) -> str:
    """By what is asked: of which models, and after which answers, whatever these took."""
    check = getattr(work, "check", None)
    if check is None:
        return _digest("fit", work.request, [one.ref for one in work.models], work.jobs, work.curve)
    told = [run.model_dump_json() for runs in ([check.runs], check.known.values()) for own in runs for run in own]
    refs = [None if one is None else one.ref for one in (check.a, check.b)]
    told = [re.sub(r'"seconds":[^,]*', "", one) for one in told]
    return _digest("check", check.request, refs, work.alone, work.loads, told)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _read(line: str) -> Yielded:
    kind, _, text = line.partition(" ")
    return RECORDS[kind].model_validate_json(text)


# --- in the child ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Again:
    """The work of a check, with what came of it."""

    work: Any
    items: tuple[Yielded, ...]

    def __call__(self) -> Iterator[Yielded]:
        """Confines the process as ever, and computes nothing."""
        Check.steps = lambda _: iter(self.items)  # type: ignore[method-assign]
        return self.work()


@dataclass(frozen=True)
class FitAgain:
    """The work of `fit` on one job, with what came of it: a line for each piece."""

    work: Any
    items: tuple[Yielded, ...]

    def __call__(self) -> Iterator[Yielded]:
        """Reads the models and begins a child for each piece as ever; these compute nothing."""
        answers = iter([json.dumps(json.loads(one.text)[0]) for one in self.items if isinstance(one, Line)])
        in_forks = fit_curves.in_forks

        def again(names: Sequence[str], _: Any, **how: Any) -> Iterator[Answered | Died]:
            return in_forks(names, dict(zip(names, answers, strict=False)).__getitem__, **how)

        fit._warm = lambda _: None
        fit_curves.in_forks = again
        return self.work()


@dataclass(frozen=True)
class Texts:
    """The work of a matrix, with what came of it."""

    texts: dict[str, str]
    runs_code_of_the_user: bool

    def prepare(self) -> None:
        """Nothing is imported for it."""

    def __call__(self, key: str) -> str:
        """The answer by its key."""
        return self.texts[key]
