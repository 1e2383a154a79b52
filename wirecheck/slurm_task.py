"""What runs inside one element of the job array. Imports nothing heavy: what the work needs, the work brings."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from wirecheck.fork_pool import MEMORY_BYTES, Limits, free_cpus, in_forks
from wirecheck.slurm_records import Chunk, Outcome, append, outcome_of, result_line, whole_lines

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission


@dataclass(frozen=True, kw_only=True)
class Element:
    """One chunk's work. Several may be under way for the same chunk: each attempt writes a file of its own."""

    folder: Path
    """Of the run: `results/` and `work/` are in it."""
    chunk: Chunk
    work: str
    """The file in `work/` that holds the pickled function."""
    jobs: int
    """Items at once."""
    limit_s: float
    """Of each item."""
    memory_bytes: int = MEMORY_BYTES
    """Of each item, beside what it shares with the others."""

    def __call__(self) -> None:
        """Every item that no earlier attempt has answered. Raises SystemExit where results cannot be written."""
        restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        done = self._answered() if restart else set()
        job = "_".join(os.environ[key] for key in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID") if key in os.environ)
        own = f"{self.chunk.id}.{job or os.environ.get('SLURM_JOB_ID', '0')}.{restart}.{os.getpid()}.jsonl"
        path = self.folder / "results" / own
        with (
            contextlib.closing(self._outcomes([name for name in self.chunk.names if name not in done])) as outcomes,
            _told(path),
            path.open("xb", buffering=0) as file,
        ):
            for outcome in outcomes:
                append(file, result_line(outcome))

    def checkpoint(self) -> DelayedSubmission:
        """What submitit puts in the queue again when time is up: the same, which skips what is answered."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(self)

    def _answered(self) -> set[str]:
        found = set()
        for path in (self.folder / "results").glob(f"{self.chunk.id}.*.jsonl"):
            for fields in whole_lines(path.read_bytes())[0]:
                outcome = outcome_of(fields)
                if outcome is not None:
                    found.add(outcome.name)
        return found

    def _outcomes(self, names: list[str]) -> Generator[Outcome]:
        with (self.folder / "work" / self.work).open("rb") as file:
            work: Callable[[str], str] = pickle.load(file)  # noqa: S301 - written by who submitted this
        if callable(prepare := getattr(work, "prepare", None)):
            prepare()
        with _Warned() as warned:
            try:
                # The CPUs told are those asked for, where the node does not hold us to them.
                limits = Limits(
                    seconds=self.limit_s,
                    memory_bytes=self.memory_bytes,
                    open_files=bool(getattr(work, "runs_code_of_the_user", False)),
                )
                yield from in_forks(names, work, jobs=min(self.jobs, free_cpus()), limits=limits)
            except KeyboardInterrupt:
                warned.passed_on()
                raise


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """A disk that takes no more ends the process with one line in its log."""
    try:
        yield
    except OSError as error:
        raise SystemExit(f"wirecheck: {error.strerror}: {path}: the rest of this element is not done") from error


class _Warned:
    """Slurm's warning that time is up, which submitit answers by an exception wherever the interpreter stands.

    Here it waits until the children are ended, as for Ctrl-C. A child, which Slurm warns too, only takes note.
    """

    def __init__(self) -> None:
        self._number: int | None = None

    def __enter__(self) -> _Warned:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGINT)}
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGUSR2, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self._number = number
        signal.raise_signal(signal.SIGINT)

    def passed_on(self) -> None:
        """What submitit does about it: asks Slurm to queue the element again, and ends the process."""
        handler = self._before[signal.SIGUSR2]
        if self._number is not None and callable(handler):
            handler(self._number, None)
