"""The collector of the Slurm executor over a queue of our own, and what one element does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import slurm_work
from wirecheck import slurm_pool
from wirecheck.errors import CouldNotCheck, OutputNotWritten, UsageError
from wirecheck.fork_pool import Answered, Died
from wirecheck.slurm_pool import SlurmPool, Standing
from wirecheck.slurm_queue import State
from wirecheck.slurm_records import Chunk, JobLog, ResultFolder, SlurmOptions
from wirecheck.slurm_task import Element


@dataclass
class FakeQueue:
    """Runs an element here when it is submitted, and says then that it ended as `endings` has it."""

    endings: list[str]
    """Of each job in turn, its last one for all further: COMPLETED is run, any other is not."""
    refusals: list[Exception | None] = field(default_factory=list)
    jobs: list[Sequence[Element]] = field(default_factory=list)
    told: dict[str, State] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    silent: int = 0
    log: str | None = "the log's end"

    def submit(self, elements: Sequence[Element]) -> str:
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal:
            raise refusal
        ending = self.endings[min(len(self.jobs), len(self.endings) - 1)]
        self.jobs.append(elements)
        job = str(len(self.jobs))
        for index, element in enumerate(elements):
            if ending == "COMPLETED":
                element()
            if ending != "gone":
                self.told[f"{job}_{index}" if len(elements) > 1 else job] = State(*ending.split("|"))
        return job

    def states(self) -> Mapping[str, State] | None:
        self.silent -= 1
        return None if self.silent >= 0 else dict(self.told)

    def accounts(self, elements: Sequence[str]) -> Mapping[str, State]:
        return {}

    def log_of(self, element: str) -> str | None:
        return self.log

    def cancel(self, elements: Iterable[str]) -> None:
        for element in elements:
            self.cancelled.append(element)
            self.told[element] = State("CANCELLED")

    def cancel_all(self) -> None:
        self.cancelled += self.told


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_TICK_S", "_LOOK_S"):
        monkeypatch.setattr(slurm_pool, name, (0.01, 0.02))
    monkeypatch.setattr(slurm_pool, "_SECOND_LOOK_S", 0.01)
    monkeypatch.setattr(slurm_pool, "_AGAIN_S", 0.05)


NAMES = ["a", "b", "c", "d", "e"]


def pool_over(folder: Path, queue: FakeQueue, **options: int) -> SlurmPool:
    return SlurmPool(folder, SlurmOptions(**{"chunk": 2, **options}, pause_s=0.01), queue=queue)


def run(pool: SlurmPool, names: Sequence[str] = NAMES) -> dict[str, Answered | Died]:
    outcomes = list(pool.run(names, slurm_work.wide, limit_s=20))
    assert sorted(one.name for one in outcomes) == sorted(names)
    return {one.name: one for one in outcomes}


def test_every_name_is_answered_once_and_kept(tmp_path: Path) -> None:
    queue = FakeQueue(["COMPLETED"])
    first = run(pool_over(tmp_path, queue))
    assert all(isinstance(one, Answered) and one.text == slurm_work.wide(one.name) for one in first.values())
    assert [element.chunk.names for element in queue.jobs[0]] == [("a",), ("b", "c"), ("d", "e")]
    assert run(pool_over(tmp_path, queue), [*NAMES, "f"]) | first == run(pool_over(tmp_path, queue), [*NAMES, "f"])
    assert [element.chunk.names for job in queue.jobs[1:] for element in job] == [("f",)]


@pytest.mark.parametrize(
    ("ending", "log", "why"),
    [
        ("TIMEOUT", "", "its job 3_0 ended as TIMEOUT (the last of 3 tries)"),
        ("OUT_OF_MEMORY", "oom-kill", "its job 3_0 ended as OUT_OF_MEMORY: oom-kill (the last of 3 tries)"),
        ("gone", "", "its job 3_0 is no longer in the queue (the last of 3 tries)"),
        ("PENDING|JobHeldAdmin", "", "its job 3_0 is held: JobHeldAdmin (the last of 3 tries)"),
        ("CANCELLED", "", "its job 1_0 was cancelled"),
        ("FAILED", None, "its job 3_0 ended as FAILED and left no log: is {} at that path on every node? (the last"),
    ],
)
def test_what_is_never_answered_dies_with_the_reason(tmp_path: Path, ending: str, log: str | None, why: str) -> None:
    queue = FakeQueue([ending], log=log)
    outcomes = run(pool_over(tmp_path, queue))
    assert isinstance(outcomes["a"], Died)
    assert outcomes["a"].why.startswith(why.format(tmp_path))
    assert len(queue.jobs) == (1 if ending == "CANCELLED" else 3)
    assert all(len(element.chunk.names) == 1 for element in queue.jobs[-1]) or ending == "CANCELLED"
    assert bool(queue.cancelled) == ending.startswith("PENDING")


def test_a_further_try_answers_and_a_silent_controller_costs_none(tmp_path: Path) -> None:
    queue = FakeQueue(["NODE_FAIL", "COMPLETED"], silent=3)
    told: list[Standing] = []
    pool = pool_over(tmp_path, queue)
    pool.told = told.append
    assert all(isinstance(one, Answered) for one in run(pool).values())
    assert len(queue.jobs) == 2
    assert "squeue does not answer" in [one.reason for one in told]


def test_a_full_disk_at_a_further_submission_is_a_try_and_an_unreachable_cluster_is_none(tmp_path: Path) -> None:
    full, away = OutputNotWritten("no room"), CouldNotCheck("Slurm does not answer")
    queue = FakeQueue(["FAILED", "COMPLETED"], refusals=[None, away, away, full])
    assert all(isinstance(one, Answered) for one in run(pool_over(tmp_path / "a", queue)).values())
    queue = FakeQueue(["FAILED", "COMPLETED"], refusals=[None, full])
    outcomes = run(pool_over(tmp_path / "b", queue, tries=1))
    assert {one.why for one in outcomes.values() if isinstance(one, Died)} == {"no room (the last of 2 tries)"}


def test_a_job_that_was_never_noted_is_ended_and_its_items_are_submitted_again(tmp_path: Path) -> None:
    queue = FakeQueue(["COMPLETED"], told={"77_0": State("RUNNING"), "77_1": State("COMPLETED")})
    pool = pool_over(tmp_path, queue)
    JobLog(tmp_path / "jobs.jsonl").plan("s", [Chunk(id="s-0", names=("a", "b"))])
    run(pool)
    assert queue.cancelled == ["77_0"]


def test_what_is_under_way_is_waited_for(tmp_path: Path) -> None:
    queue = FakeQueue(["RUNNING"])
    outcomes = pool_over(tmp_path, queue).run(NAMES, slurm_work.wide, limit_s=20)
    pool = pool_over(tmp_path, queue)
    leave(outcomes)
    for element in queue.jobs[0]:
        element()
    assert len(run(pool)) == len(NAMES)
    assert len(queue.jobs) == 1


def leave(outcomes: Iterator[Answered | Died]) -> None:
    """Submits and leaves as Ctrl-C would: in the first sleep after the submission."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slurm_pool.time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(outcomes)


def test_a_run_knows_its_options(tmp_path: Path) -> None:
    begun = SlurmPool(tmp_path / "run", SlurmOptions(partition="gpu", extra={"qos": "low"}))
    again = SlurmPool(tmp_path / "run")
    assert again.options == begun.options
    assert again.queue.name == begun.queue.name
    with pytest.raises(UsageError, match="no run was begun here"):
        SlurmPool(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    (tmp_path / "run" / "run.json").write_text('{"name": "x"}')
    with pytest.raises(UsageError, match="not a run of this version"):
        SlurmPool(tmp_path / "run")


def test_two_do_not_collect_one_run(tmp_path: Path) -> None:
    queue = FakeQueue(["COMPLETED"])
    outcomes = pool_over(tmp_path, queue).run(NAMES, slurm_work.wide, limit_s=20)
    next(iter(outcomes))
    with pytest.raises(UsageError, match="another process collects"):
        run(pool_over(tmp_path, queue))
    outcomes.close()
    assert len(run(pool_over(tmp_path, queue))) == len(NAMES)


# --- an element --------------------------------------------------------------------------------------------------


def test_a_restart_skips_what_is_answered_and_writes_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = FakeQueue(["COMPLETED"])
    run(pool_over(tmp_path, queue, chunk=5))
    (element,) = queue.jobs[0]
    (path,) = (tmp_path / "results").iterdir()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]) + b'{"name": "d", "te')
    done = list(ResultFolder(tmp_path / "results").read())
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    element()
    (fresh,) = set((tmp_path / "results").iterdir()) - {path}
    names = [json.loads(line)["name"] for line in fresh.read_text().splitlines()]
    assert sorted(names + [one.name for one in done]) == NAMES


def test_a_disk_that_takes_no_more_ends_the_element_in_one_line(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from tests.test_slurm_pool import *\n"
        "queue = FakeQueue(['RUNNING']); pool = pool_over(Path(sys.argv[1]), queue, chunk=5)\n"
        "leave(pool.run(NAMES, slurm_work.wide, limit_s=20))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); queue.jobs[0][0]()\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("wirecheck: File too large: ")
    assert done.stderr.count("\n") == 1
    assert len(list(ResultFolder(tmp_path / "results").read())) == 2
