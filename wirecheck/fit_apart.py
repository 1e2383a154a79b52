"""`fit` in a confined child: the configs are read, and the classes run, there. On Linux; elsewhere in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wirecheck.confinement import Fence, confine
from wirecheck.errors import CannotRun, CouldNotCheck
from wirecheck.fit import LIMIT_S, Made, Progress, fit, gathered, steps
from wirecheck.frontier_records import Frontier, FrontierRow
from wirecheck.isolated_child import Begun, Line
from wirecheck.isolated_child import Yielded as Step
from wirecheck.isolation import ChildFailed, Words, isolated
from wirecheck.runner import Request
from wirecheck.scratch import Scratch
from wirecheck.snapshot import Snapshot
from wirecheck.supervision import has_native_threads

_SILENCE_S = 3 * LIMIT_S
"""Reading, warming up and one piece of the work are over by then, or something hangs."""
_WORDS = Words("the trace", "which no piece of this work takes")


def fit_apart(
    request: Request, a: Snapshot, b: Snapshot, progress: Progress, *, jobs: int, curve: bool = False
) -> Frontier:
    """As `fit.fit`. Raises CouldNotCheck also where the child died."""
    if sys.platform != "linux":
        return fit(request, a, b, progress, jobs=jobs, curve=curve)
    try:
        with Scratch() as scratch:
            work = _Work(request, (a, b), scratch, jobs, curve)
            return gathered(request, a, b, progress, lambda: _come(work))
    except (ChildFailed, CannotRun) as died:
        models = f"{a.ref.text} {b.ref.text}"
        raise CouldNotCheck(f"{models}: nothing was traced: {died}", next_step=f"wirecheck pair {models}") from died


def _come(work: _Work) -> Iterator[Made]:
    """The steps from the child."""
    for line in isolated(work, _SILENCE_S, fresh=False, words=_WORDS, one_thread=has_native_threads()):
        match line:
            case Line(kind="made", text=text):
                rows, done, total = json.loads(text)
                yield Made([FrontierRow.model_validate(row) for row in rows], int(done), int(total))
            case Line(kind="could-not-check", text=text):
                message, next_step = json.loads(text)
                raise CouldNotCheck(str(message), next_step=next_step)


@dataclass(frozen=True)
class _Work:
    request: Request
    models: tuple[Snapshot, Snapshot]
    scratch: Path
    jobs: int
    curve: bool

    def __call__(self) -> Iterator[Step]:
        """In the child."""
        chosen = self.request.policy.trust_remote_code
        confine(Fence(None if chosen else self.scratch, programs=chosen))
        try:
            for made in steps(self.request, *self.models, jobs=self.jobs, curve=self.curve):
                rows = [row.model_dump(mode="json") for row in made.rows]
                yield Line(kind="made", text=json.dumps([rows, made.done, made.total]))
                yield Begun(probe="fit", subject="pair", limit_s=_SILENCE_S, skipped=False)
        except CouldNotCheck as error:
            yield Line(kind="could-not-check", text=json.dumps([error.message, error.next_step]))
