"""The Slurm executor without Slurm: its files, its sums, its words, and its collector over a queue of our own."""

from __future__ import annotations

import json
import os
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
from wirecheck.slurm_queue import Slurm, State, parameters, refused, states_of
from wirecheck.slurm_records import Chunk, JobLog, ResultFolder, SlurmOptions, outcome_of, parts, result_line
from wirecheck.slurm_task import Element

# --- lines and files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Answered("a", "line\nand é", 1.5), Died("b", "was ended by SIGKILL", 0.0)])
def test_an_outcome_is_one_line_and_comes_back(outcome: Answered | Died) -> None:
    line = result_line(outcome)
    assert line.count(b"\n") == 1
    assert outcome_of(json.loads(line)) == outcome


def test_a_torn_line_is_read_when_its_end_has_come(tmp_path: Path) -> None:
    line = result_line(Answered("a", "text", 1.0))
    path = tmp_path / "c-0.1.0.9.jsonl"
    path.write_bytes(line + line[:9].replace(b'"a"', b'"b"'))
    results = ResultFolder(tmp_path)
    assert [one.name for one in results.read()] == ["a"]
    assert results.read() == []
    with path.open("ab") as file:
        file.write(line[9:].replace(b"text", b"more"))
    assert results.read() == []  # the name is answered already
    with path.open("ab") as file:
        file.write(b"no json\n[1]\n{}\n" + result_line(Died("b", "why", 2.0)))
    assert results.read() == [Died("b", "why", 2.0)]


def test_the_first_outcome_of_a_name_stands_and_every_byte_is_read_once(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path)
    (tmp_path / "c-0.1_0.0.9.jsonl").write_bytes(result_line(Answered("a", "orphan", 1.0)))
    assert results.read() == [Answered("a", "orphan", 1.0)]
    (tmp_path / "c-0.1_0.1.7.jsonl").write_bytes(result_line(Answered("a", "again", 1.0)))
    (tmp_path / "c-1.1_1.0.8.jsonl").write_bytes(result_line(Answered("b", "unread", 1.0)))
    assert results.read(frozenset({"c-0"})) == []
    assert results.outcomes == {"a": Answered("a", "orphan", 1.0)}
    assert results.read(frozenset({"c-1"})) == [Answered("b", "unread", 1.0)]


def test_the_log_forgets_what_was_planned_and_not_submitted_and_mends_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    log = JobLog(path)
    pair, alone = (Chunk(id="s-0", names=("a", "b")), Chunk(id="s-1", names=("c",))), (Chunk(id="t-0", names=("a",)),)
    log.plan("s", pair)
    log.submitted("s", "12")
    log.plan("t", alone)
    with path.open("ab") as file:
        file.write(b'{"submission": "t", "jo')
    again = JobLog(path)
    assert dict(again.elements()) == {"12_0": pair[0], "12_1": pair[1]}
    again.plan("u", alone)
    again.submitted("u", "13")
    assert dict(JobLog(path).elements()) == {"12_0": pair[0], "12_1": pair[1], "13": alone[0]}


# --- sums --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "count", "items"),
    [
        ({}, 1, 1),
        ({}, 60, 1),
        ({}, 250, 3),
        ({}, 5000, 32),
        ({"cpus": 4}, 5000, 50),
        ({}, 100_000, 100),
        ({"chunk": 7}, 100_000, 7),
    ],
)
def test_elements_use_the_array_and_are_minutes(options: dict[str, int], count: int, items: int) -> None:
    assert SlurmOptions(**options).items_of(count) == items


def test_a_further_try_is_smaller_and_the_last_one_is_alone() -> None:
    options = SlurmOptions(chunk=20, tries=2)
    assert [options.items_again(40, tried) for tried in (1, 2)] == [5, 1]
    assert SlurmOptions(chunk=20, tries=1).items_again(40, 1) == 1


def test_parts_are_even_and_keep_the_order() -> None:
    assert list(parts("abcdefg", 3)) == [("a", "b"), ("c", "d"), ("e", "f", "g")]
    assert list(parts("", 3)) == []


# --- words -------------------------------------------------------------------------------------------------------


def test_the_script_asks_for_what_the_options_say() -> None:
    from submitit.slurm.slurm import _make_sbatch_string

    options = SlurmOptions(partition="gpu", minutes=2, cpus=3, gpus=1, memory="8G", array=7, extra={"qos": "low"})
    script = _make_sbatch_string(command="run", folder="there", map_count=9, **parameters("wirecheck-1", options))
    for line in ("partition=gpu", "time=2", "cpus-per-task=3", "gpus-per-node=1", "mem=8G", "array=0-8%7", "qos=low"):
        assert f"#SBATCH --{line}\n" in script
    assert "#SBATCH --signal=USR2@60\n" in script  # half of the limit, where 90 s would be more
    assert "#SBATCH --requeue\n" in script
    assert "#SBATCH --job-name=wirecheck-1\n" in script
    assert "srun --unbuffered" in script
    assert "--cpus-per-task=3 run" in script
    plain = _make_sbatch_string(command="run", folder="there", **parameters("wirecheck-1", SlurmOptions()))
    assert not [word for word in ("partition", "gpus", "mem=", "wckey", "array") if f"--{word}" in plain]


def test_squeue_is_read() -> None:
    told = "12|0|RUNNING|None\n12|1|PENDING|Resources\n13|N/A|NODE_FAIL|NodeDown\nwarning\n\n"
    states = states_of(told)
    assert states == {"12_0": State("RUNNING", "None"), "12_1": State("PENDING", "Resources"), "13": states["13"]}
    assert [state.ended for state in states.values()] == [False, False, True]
    assert State("PENDING", "launch_failed_requeued_held").ended
    assert not State("COMPLETING").ended


@pytest.mark.parametrize(
    ("said", "kind", "step"),
    [
        (
            "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed",
            UsageError,
            "sinfo",
        ),
        ("sbatch: error: Batch job submission failed: Invalid account", UsageError, "sacctmgr"),
        ("sbatch: error: Batch job submission failed: Invalid job array specification", UsageError, "MaxArraySize"),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller", CouldNotCheck, "scontrol"),
    ],
)
def test_a_refusal_is_one_line_with_the_next_thing_to_type(said: str, kind: type, step: str) -> None:
    error = refused(said)
    assert type(error) is kind
    assert "\n" not in str(error)
    assert said.splitlines()[0].removeprefix("sbatch: error: ") in str(error)
    assert step in str(error.next_step)


def test_without_slurm_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="sbatch is not on PATH"):
        list(SlurmPool(tmp_path / "run", SlurmOptions()).run(["a"], slurm_work.wide, limit_s=9))


def test_without_submitit_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(UsageError) as caught:
        list(SlurmPool(tmp_path, SlurmOptions()).run(["a"], slurm_work.wide, limit_s=9))
    assert caught.value.next_step == "pip install 'wirecheck[slurm]'"
    monkeypatch.setattr("wirecheck.slurm_queue.shutil.which", lambda name: name)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match="submitit, which is not installed"):
        Slurm(tmp_path, "name", SlurmOptions()).submit([])


def test_a_pattern_of_slurms_in_the_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reads % in a path"):
        SlurmPool(tmp_path / "100%", SlurmOptions())


def test_the_log_is_read_for_the_last_words_of_the_program(tmp_path: Path) -> None:
    queue = Slurm(tmp_path, "name", SlurmOptions())
    assert queue.log_of("12_0") is None
    log = tmp_path / "12_0_0_log.err"
    log.write_text("submitit ERROR (today) - failed\nOSError: no room\nsrun: error: node1: task 0: Exited\n")
    assert queue.log_of("12_0") == "OSError: no room"
    log.write_text("")
    assert queue.log_of("12_0") == ""


def test_an_element_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'pydantic', 'rich', 'typer', 'submitit'}"
    code = f"import sys, wirecheck.slurm_task; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- the collector -----------------------------------------------------------------------------------------------


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
    done = ResultFolder(tmp_path / "results").read()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    element()
    (fresh,) = set((tmp_path / "results").iterdir()) - {path}
    names = [json.loads(line)["name"] for line in fresh.read_text().splitlines()]
    assert sorted(names + [one.name for one in done]) == NAMES


def test_a_disk_that_takes_no_more_ends_the_element_in_one_line(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from tests.test_slurm_records import *\n"
        "queue = FakeQueue(['RUNNING']); pool = pool_over(Path(sys.argv[1]), queue, chunk=5)\n"
        "leave(pool.run(NAMES, slurm_work.wide, limit_s=20))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); queue.jobs[0][0]()\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("wirecheck: File too large: ")
    assert done.stderr.count("\n") == 1
    assert len(ResultFolder(tmp_path / "results").read()) == 2
    assert os.access(tmp_path / "results", os.W_OK)
