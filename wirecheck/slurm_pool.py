"""Many pieces of work as elements of Slurm job arrays: `fork_pool.in_forks`, over a cluster.

The files in the run's folder are the truth: an item is answered when a line of a result file says so, whoever wrote it.
Then comes squeue: an element that it does not list as alive has ended. Whoever submits may die at any moment, and
another one on the same folder takes what is there, waits for what is under way, and submits the rest. An item may be
worked on twice, and is told once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wirecheck.errors import CouldNotCheck, OutputNotWritten, UsageError
from wirecheck.fork_pool import MEMORY_BYTES, Died
from wirecheck.slurm_queue import Queue, Slurm, State, pickled
from wirecheck.slurm_records import MOST_ELEMENTS, Chunk, JobLog, Outcome, ResultFolder, SlurmOptions, parts
from wirecheck.slurm_task import Element
from wirecheck.whole_file import put_whole

_TICK_S = (0.5, 5.0)
"""Between two looks at the result files: at first, and when nothing has come for long."""
_LOOK_S = (2.0, 15.0)
"""The same between two questions to squeue."""
_SECOND_LOOK_S = 1.0
"""After an element was first seen ended: Slurm takes a moment to queue one again."""
_AGAIN_S = 30.0
"""After a cluster that does not answer, until the next submission."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a run is, for whoever shows it."""

    open: int
    """Items without an answer."""
    running: int
    """Elements."""
    pending: int
    """Elements."""
    reason: str = ""
    """Of one of the pending, in Slurm's own word; or why nothing is known."""


class SlurmPool:
    """One run on a cluster, all of it in `folder`, which every node must see at the same path."""

    def __init__(
        self,
        folder: Path,
        options: SlurmOptions | None = None,
        *,
        told: Callable[[Standing], None] | None = None,
        queue: Queue | None = None,
    ) -> None:
        """`options` None: those the run in `folder` was begun with. `told` hears of every change in the queue.

        Raises UsageError and OutputNotWritten for the folder's sake.
        """
        self.folder = folder.resolve()
        self.told = told or (lambda _: None)
        if "%" in str(self.folder):
            raise UsageError(f"{folder}: Slurm reads % in a path as a pattern", next_step="choose another folder")
        try:
            name, self.options = self._begun(options)
            for part in ("results", "work", "slurm"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritten(self.folder, error) from error
        self.queue = queue or Slurm(self.folder / "slurm", name, self.options)

    def _begun(self, options: SlurmOptions | None) -> tuple[str, SlurmOptions]:
        """The run's name and options; `run.json` is written where this is its beginning."""
        path = self.folder / "run.json"
        if not path.is_file():
            if options is None:
                raise UsageError(
                    f"{self.folder}: no run was begun here", next_step="ls */run.json  # the runs there are"
                )
            name = f"wirecheck-{secrets.token_hex(4)}"
            put_whole(path, json.dumps({"version": 1, "name": name, "options": options.as_fields()}))
            return name, options
        try:
            begun = json.loads(path.read_text(encoding="utf-8"))
            return str(begun["name"]), options or SlurmOptions(**begun["options"])
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}: not a run of this version", next_step="begin in another folder") from error

    def run(
        self,
        names: Sequence[str],
        work: Callable[[str], str],
        *,
        limit_s: float,
        memory_bytes: int = MEMORY_BYTES,
    ) -> Iterator[Outcome]:
        """What `work(name)` returns on some node, or how it ended, once for each name, in the order they come.

        A name stands for all that its answer depends on: what is in the folder for it is taken. `work` is pickled; its
        `prepare`, where it has one, is called once in each element. An item that dies by itself is told as by
        `in_forks`, one whose element ended without answering it after the options' further tries.

        Ctrl-C passes, and the jobs go on: `cancel` ends them. Raises UsageError where Slurm, submitit or what is asked
        of them is not there, CouldNotCheck where Slurm does not answer, OutputNotWritten.
        """
        assert len(set(names)) == len(names), "a name is there twice"
        with self._alone():
            collector = _Collector(self, names)
            yield from collector.kept()
            if collector.open:
                collector.ask_for(_Wanted(self._stored(work), limit_s, memory_bytes))
                yield from collector.outcomes()

    def cancel(self) -> None:
        """Takes all jobs of this run out of the queue; what they have answered stays. Raises as `run` does."""
        self.queue.cancel_all()

    def _stored(self, work: Callable[[str], str]) -> str:
        """The pickled function's file: one for each function, however many elements there are."""
        content = pickled(work)
        path = self.folder / "work" / f"{hashlib.sha256(content).hexdigest()[:16]}.pkl"
        try:
            put_whole(path, content)
        except OSError as error:
            raise _unwritten(path, error) from error
        return path.name

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two that submit for one run would take each other's jobs for lost ones. The kernel lets go at death."""
        import fcntl

        path = self.folder / "collector.lock"
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                told = f"{self.folder}: another process collects this run"
                raise UsageError(told, next_step="wait for it, or end it") from error
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # a file system without locks
                    raise _unwritten(path, error) from error
            yield


@dataclass(frozen=True)
class _Wanted:
    """What every element of one call is to do: the pickled work's file, and the limits of each item."""

    work: str
    limit_s: float
    memory_bytes: int


class _Collector:
    """One call of `run`: what is still open, which elements may answer it, and what is to be submitted again."""

    def __init__(self, pool: SlurmPool, names: Sequence[str]) -> None:
        self.pool, self.options, self.queue = pool, pool.options, pool.queue
        self.open = dict.fromkeys(names)
        """In their order; what is told leaves."""
        self.results = ResultFolder(pool.folder / "results")
        self.log = JobLog(pool.folder / "jobs.jsonl")
        self.alive: dict[str, Chunk] = {}
        """Elements that may still answer something open."""
        self.since: dict[str, float] = {}
        self.looks: defaultdict[str, int] = defaultdict(int)
        """How often in a row an element was seen ended."""
        self.unanswered: dict[str, set[str]] = {}
        """Chunk -> its names that are open; their result files are the ones to read."""
        self.chunks_of: defaultdict[str, list[str]] = defaultdict(list)
        self.tried: defaultdict[str, int] = defaultdict(int)
        self.again: list[tuple[float, int, tuple[str, ...]]] = []
        """When due, tried how often, names."""
        self.states: Mapping[str, State] = {}

    def ask_for(self, wanted: _Wanted) -> None:
        """What every element of this call is to do."""
        self.wanted = wanted

    # --- results ---

    def kept(self) -> Iterator[Outcome]:
        """What is in the folder already."""
        for outcome in self.results.kept():
            if outcome.name in self.open:
                yield self._close(outcome)

    def _close(self, outcome: Outcome) -> Outcome:
        del self.open[outcome.name]
        for chunk in self.chunks_of.pop(outcome.name, ()):
            self.unanswered[chunk].discard(outcome.name)
            if not self.unanswered[chunk]:
                del self.unanswered[chunk]
        return outcome

    def outcomes(self) -> Iterator[Outcome]:
        """All the rest. Asks the queue before it reads: what an ended element has written is read after its end."""
        self._take_over()
        tick_s, look_s = _TICK_S[0], _LOOK_S[0]
        looked_at = time.monotonic()
        while self.open:
            time.sleep(tick_s)
            states = None
            looking = time.monotonic() - looked_at >= look_s
            if looking:
                states, looked_at = self._states(), time.monotonic()
                look_s = _LOOK_S[0] if states != self.states else min(look_s * 1.5, _LOOK_S[1])
            tick_s = min(tick_s * 1.25, _TICK_S[1])
            for outcome in self.results.read(frozenset(self.unanswered), look=looking):
                if outcome.name in self.open:
                    tick_s = _TICK_S[0]
                    yield self._close(outcome)
            if states is not None:
                self.states = states
                for died in self._settle():
                    yield self._close(died)
                look_s = _SECOND_LOOK_S if self.looks else look_s
            for died in self._submit_due():
                yield self._close(died)

    # --- the queue ---

    def _states(self) -> Mapping[str, State] | None:
        states = self.queue.states()
        if states is None:
            self._tell(reason="squeue does not answer")
            return None
        lost = {name for name, state in states.items() if name.partition("_")[0] not in self.log.jobs}
        self.queue.cancel(name for name in lost if not states[name].ended)  # whose submitter died before it was noted
        return {name: state for name, state in states.items() if name not in lost}

    def _tell(self, reason: str = "") -> None:
        told = [self.states[name] for name in self.alive if name in self.states]
        pending = [one for one in told if one.name == "PENDING"]
        reasons = [one.reason for one in pending if one.reason not in ("", "None")]
        self.pool.told(
            Standing(
                open=len(self.open),
                running=sum(state.name == "RUNNING" for state in told),
                pending=len(pending),
                reason=reason or (reasons or [""])[0],
            )
        )

    def _take_over(self) -> None:
        """Waits for what another submitter left under way, and submits the rest."""
        covered: set[str] = set()
        if self.log.path.is_file():
            states = self._states()
            self.states = states or {}
            for element, chunk in self.log.elements():
                wanted = self._watch(chunk)
                state = self.states.get(element)
                if wanted and (states is None or (state is not None and not state.ended)):
                    self.alive[element] = chunk
                    self.since[element] = time.monotonic()
                    covered |= wanted
        self.tried |= dict.fromkeys(covered, 1)
        self._submit([name for name in self.open if name not in covered], 0)
        self._tell()

    def _watch(self, chunk: Chunk) -> set[str]:
        wanted = {name for name in chunk.names if name in self.open}
        if wanted:
            self.unanswered[chunk.id] = wanted
            for name in wanted:
                self.chunks_of[name].append(chunk.id)
        return set(wanted)

    def _settle(self) -> Iterator[Died]:
        """Elements that have ended: what they left open is submitted again, or told as died."""
        for element in [name for name, chunk in self.alive.items() if chunk.id not in self.unanswered]:
            self._forget(element)
        gone = []
        for element in self.alive:
            state = self.states.get(element)
            if state is not None and not state.ended:
                self.looks.pop(element, None)
                continue
            self.looks[element] += 1
            if self.looks[element] > 1:
                gone.append(element)
        accounts = self.queue.accounts([name for name in gone if name not in self.states])
        self.queue.cancel(name for name in gone if name in self.states and self.states[name].name == "PENDING")
        for element in gone:
            state = self.states.get(element) or accounts.get(element)
            missing = sorted(self.unanswered.get(self.alive[element].id, ()))
            died = self._fail(missing, self._why(element, state), final=state is not None and state.name == "CANCELLED")
            seconds = round(time.monotonic() - self.since[element], 3)
            self._forget(element)
            yield from (Died(name, why, seconds) for name, why in died)
        self._tell()

    def _forget(self, element: str) -> None:
        del self.alive[element], self.since[element]
        self.looks.pop(element, None)

    def _why(self, element: str, state: State | None) -> str:
        match state:
            case None:
                told = f"its job {element} is no longer in the queue"
            case State(name="CANCELLED"):
                return f"its job {element} was cancelled"
            case State(name="PENDING", reason=reason):
                told = f"its job {element} is held: {reason}"
            case State(name=name):
                told = f"its job {element} ended as {name}"
        words = self.queue.log_of(element)
        if words is None:
            return f"{told} and left no log: is {self.pool.folder} at that path on every node?"
        return f"{told}: {words}" if words else told

    # --- submission ---

    def _fail(self, names: Iterable[str], why: str, *, final: bool = False) -> list[tuple[str, str]]:
        """Those that have no try left, with the reason; the others are submitted again after a pause."""
        over, groups = [], defaultdict(list)
        for name in names:
            tried = self.tried[name]
            if final or tried > self.options.tries:
                over.append((name, why if tried <= 1 else f"{why} (the last of {tried} tries)"))
            else:
                groups[tried].append(name)
        for tried, group in groups.items():
            pause_s = self.options.pause_s * 3 ** max(0, tried - 1)
            self.again.append((time.monotonic() + pause_s, tried, tuple(group)))
        return over

    def _submit_due(self) -> Iterator[Died]:
        now = time.monotonic()
        due = [one for one in self.again if one[0] <= now]
        self.again = [one for one in self.again if one[0] > now]
        for tried in sorted({one[1] for one in due}):
            names = [name for one in due if one[1] == tried for name in one[2] if name in self.open]
            try:
                self._submit(names, tried)
            except OutputNotWritten as error:
                for name in names:
                    self.tried[name] = tried + 1
                yield from (Died(name, why, 0.0) for name, why in self._fail(names, str(error)))
            except CouldNotCheck as error:
                self._tell(reason=str(error))
                self.again.append((now + _AGAIN_S, tried, tuple(names)))

    def _submit(self, names: Sequence[str], tried: int) -> None:
        options = self.options
        most = options.items_again(len(names), tried) if tried else options.items_of(len(names))
        chunks = list(parts(names, most))
        for begin in range(0, len(chunks), MOST_ELEMENTS):
            self._submit_array(chunks[begin : begin + MOST_ELEMENTS], tried)

    def _submit_array(self, parts_of_it: Sequence[tuple[str, ...]], tried: int) -> None:
        submission = secrets.token_hex(4)
        chunks = [Chunk(id=f"{submission}-{index}", names=part) for index, part in enumerate(parts_of_it)]
        try:
            self.log.plan(submission, chunks)
            job = self.queue.submit([self._element(chunk) for chunk in chunks])
            self.log.submitted(submission, job)
        except OSError as error:
            raise _unwritten(self.log.path, error) from error
        for index, chunk in enumerate(chunks):
            element = f"{job}_{index}" if len(chunks) > 1 else job
            self.alive[element] = chunk
            self.since[element] = time.monotonic()
            for name in self._watch(chunk):
                self.tried[name] = tried + 1

    def _element(self, chunk: Chunk) -> Element:
        return Element(
            folder=self.pool.folder,
            chunk=chunk,
            work=self.wanted.work,
            jobs=1 if self.options.gpus else self.options.cpus,
            limit_s=self.wanted.limit_s,
            memory_bytes=self.wanted.memory_bytes,
        )


def _unwritten(path: Path, error: OSError) -> OutputNotWritten:
    return OutputNotWritten(f"{path}: {error.strerror or error}", next_step="df -h  # or another folder for the run")
