"""What is asked of Slurm, and the two kinds of append-only files by which a run outlives every process of it.

`jobs.jsonl` holds what was submitted, a result file what one attempt at one element has answered. Both hold a JSON
record a line; a last line without its end is one whose writer was cut off, and is nobody's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from wirecheck.fork_pool import Answered, Died

Outcome = Answered | Died
ITEMS_PER_CPU = 32
"""Of one element, where it is not said: seconds each make minutes."""
MOST_ELEMENTS = 1000
"""Of one job array: Slurm's own limit where a site has not set another."""


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """What to ask of the cluster for each element of the job array, and how many there may be."""

    partition: str | None = None
    """None is the cluster's default."""
    minutes: int = 60
    """Time limit of an element. One that comes to it is queued again for what is left."""
    cpus: int = 1
    """That many items at once, each in a process of its own; without GPUs."""
    gpus: int = 0
    """With one or more, one item at a time has them all."""
    memory: str | None = None
    """As for sbatch: `8G`. None is the cluster's default."""
    array: int = 100
    """At most that many elements run at once."""
    chunk: int | None = None
    """Items of an element. None: as many as use the whole array, and at most ITEMS_PER_CPU for each CPU."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """More options of sbatch by their long names: qos, account, constraint."""
    tries: int = 2
    """An item whose element ended without answering it is submitted that many times more."""
    pause_s: float = 5.0
    """Before the first of those; three times as long before each further one."""
    warning_s: int = 90
    """So long before its time limit an element stops to be queued again; at most half of the limit."""

    def __post_init__(self) -> None:
        least = {"minutes": 1, "cpus": 1, "gpus": 0, "array": 1, "tries": 0}
        assert all(getattr(self, name) >= number for name, number in least.items()), self
        assert self.chunk is None or self.chunk >= 1, self

    def as_fields(self) -> dict[str, Any]:
        """For a JSON file."""
        return {**asdict(self), "extra": dict(self.extra)}

    def items_of(self, count: int) -> int:
        """Items of an element, for `count` items in all."""
        if self.chunk is not None:
            return self.chunk
        wanted = min(-(-count // self.array), ITEMS_PER_CPU * self.cpus)
        return max(1, wanted, -(-count // MOST_ELEMENTS))

    def items_again(self, count: int, tried: int) -> int:
        """The same for items that were submitted `tried` times before: fewer each time, and in the end each alone.

        So what takes its whole element down with it takes nothing else down in the end.
        """
        return 1 if tried >= self.tries else max(1, self.items_of(count) // 4**tried)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The items of one element of a job array."""

    id: str
    """Unique in the run; its result files are `results/<id>.*`."""
    names: tuple[str, ...]


def parts(names: Sequence[str], most: int) -> Iterator[tuple[str, ...]]:
    """Neighbours stay together, and no part is much smaller than the others."""
    count = -(-len(names) // most)
    for index in range(count):
        yield tuple(names[index * len(names) // count : (index + 1) * len(names) // count])


# --- lines -------------------------------------------------------------------------------------------------------


def result_line(outcome: Outcome) -> bytes:
    """One outcome as a line of a result file."""
    match outcome:
        case Answered(name, text, seconds):
            fields: dict[str, Any] = {"name": name, "text": text, "seconds": seconds}
        case Died(name, why, seconds):
            fields = {"name": name, "why": why, "seconds": seconds}
    return json.dumps(fields).encode() + b"\n"


def outcome_of(fields: Mapping[str, Any]) -> Outcome | None:
    """The reverse; None for what is no such line."""
    match fields:
        case {"name": str(name), "text": str(text), "seconds": int() | float() as seconds}:
            return Answered(name, text, float(seconds))
        case {"name": str(name), "why": str(why), "seconds": int() | float() as seconds}:
            return Died(name, why, float(seconds))
    return None


def whole_lines(text: bytes) -> tuple[list[dict[str, Any]], int]:
    """The records among the lines that have their end, and how many bytes those are; what is no record is left out."""
    end = text.rfind(b"\n") + 1
    found = []
    for line in text[:end].splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue  # half of a line: its writer was cut off, and the next one began on a new line
        if isinstance(fields, dict):
            found.append(fields)
    return found, end


def append(file: BinaryIO, line: bytes) -> None:
    """On the disk when this returns. Raises OSError; then the line may be there in part."""
    while line:  # the file is opened without a buffer: a line that a full disk refused must not come later
        line = line[file.write(line) :]
    os.fsync(file.fileno())


class JobLog:
    """`jobs.jsonl`: first what is going to be submitted, then the number the job got. Only the submitter writes it.

    A death in between leaves a job in the queue that no line names, which the next submitter ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.jobs: dict[str, tuple[Chunk, ...]] = {}
        """Job number -> the chunks of its elements, in their order."""
        self._planned: dict[str, tuple[Chunk, ...]] = {}
        if path.is_file():
            for fields in whole_lines(path.read_bytes())[0]:
                self._take(fields)

    def _take(self, fields: Mapping[str, Any]) -> None:
        match fields:
            case {"submission": str(submission), "chunks": list(chunks)}:
                read = tuple(Chunk(id=str(one["id"]), names=tuple(one["names"])) for one in chunks)
                self._planned[submission] = read
            case {"submission": str(submission), "job": str(job)} if submission in self._planned:
                self.jobs[job] = self._planned[submission]

    def plan(self, submission: str, chunks: Sequence[Chunk]) -> None:
        """Raises OSError."""
        fields = [{"id": chunk.id, "names": chunk.names} for chunk in chunks]
        self._write({"submission": submission, "chunks": fields})
        self._planned[submission] = tuple(chunks)

    def submitted(self, submission: str, job: str) -> None:
        """Raises OSError."""
        self.jobs[job] = self._planned[submission]
        self._write({"submission": submission, "job": job})

    def _write(self, fields: Mapping[str, Any]) -> None:
        with self.path.open("a+b", buffering=0) as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
            else:
                torn = False
            append(file, (b"\n" if torn else b"") + json.dumps(fields).encode() + b"\n")

    def elements(self) -> Iterator[tuple[str, Chunk]]:
        """Each element by the name squeue has for it: `12_0`, or `12` for a job that is no array."""
        for job, chunks in self.jobs.items():
            for index, chunk in enumerate(chunks):
                yield (f"{job}_{index}" if len(chunks) > 1 else job), chunk


class ResultFolder:
    """All result files of a run, read as they grow: each byte once, and the first outcome of a name stands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._told: set[str] = set()
        self._offsets: dict[str, int] = {}
        self._seen_at = -1

    def read(self, open_chunks: frozenset[str] | None = None, *, look: bool = True) -> Iterator[Outcome]:
        """What has come since. Files of chunks that are not in `open_chunks` are left unread (None reads all); without
        `look`, new files are looked for only where the folder has changed.
        """
        changed_at = self.folder.stat().st_mtime_ns
        if look or changed_at != self._seen_at:
            self._seen_at = changed_at
            for entry in os.scandir(self.folder):
                if entry.name.endswith(".jsonl"):
                    self._offsets.setdefault(entry.name, 0)
        for name in list(self._offsets):
            if open_chunks is None or name.partition(".")[0] in open_chunks:
                for outcome in self._read(name):
                    if outcome.name not in self._told:
                        self._told.add(outcome.name)
                        yield outcome

    def kept(self) -> list[Outcome]:
        """What was there before; where one attempt has died and another answered, the answer."""
        found: dict[str, Outcome] = {}
        for entry in sorted(os.scandir(self.folder), key=lambda entry: entry.name):
            for outcome in self._read(entry.name) if entry.name.endswith(".jsonl") else ():
                if not isinstance(found.get(outcome.name), Answered):
                    found[outcome.name] = outcome
        self._told |= found.keys()
        return list(found.values())

    def _read(self, name: str) -> Iterator[Outcome]:
        with (self.folder / name).open("rb") as file:
            file.seek(self._offsets.setdefault(name, 0))
            records, read = whole_lines(file.read())
        self._offsets[name] += read
        for fields in records:
            outcome = outcome_of(fields)
            if outcome is not None:
                yield outcome
