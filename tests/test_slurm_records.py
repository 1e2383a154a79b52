"""The Slurm executor without Slurm: its files, its sums, its words, and its collector over a queue of our own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import slurm_work
from wirecheck.errors import CouldNotCheck, UsageError
from wirecheck.fork_pool import Answered, Died
from wirecheck.slurm_pool import SlurmPool
from wirecheck.slurm_queue import Slurm, State, parameters, refused, states_of
from wirecheck.slurm_records import Chunk, JobLog, ResultFolder, SlurmOptions, outcome_of, parts, result_line

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
    assert list(results.read()) == []
    with path.open("ab") as file:
        file.write(line[9:].replace(b"text", b"more"))
    assert list(results.read()) == []  # the name is answered already
    with path.open("ab") as file:
        file.write(b"no json\n[1]\n{}\n" + result_line(Died("b", "why", 2.0)))
    assert list(results.read()) == [Died("b", "why", 2.0)]


def test_the_first_outcome_of_a_name_stands_and_every_byte_is_read_once(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path)
    (tmp_path / "c-0.1_0.0.9.jsonl").write_bytes(result_line(Answered("a", "orphan", 1.0)))
    assert list(results.read()) == [Answered("a", "orphan", 1.0)]
    (tmp_path / "c-0.1_0.1.7.jsonl").write_bytes(result_line(Answered("a", "again", 1.0)))
    (tmp_path / "c-1.1_1.0.8.jsonl").write_bytes(result_line(Answered("b", "unread", 1.0)))
    assert list(results.read(frozenset({"c-0"}))) == []
    assert list(results.read(frozenset({"c-1"}))) == [Answered("b", "unread", 1.0)]


def test_of_what_was_there_an_answer_stands_before_a_death(tmp_path: Path) -> None:
    for name, outcome in (
        ("a.1", Died("x", "hung", 9.0)),
        ("b.1", Answered("x", "late", 3.0)),
        ("c.1", Died("x", "no", 1)),
    ):
        (tmp_path / f"{name}.jsonl").write_bytes(result_line(outcome))
    (tmp_path / "d.1.jsonl").write_bytes(
        result_line(Answered("x", "later", 1.0)) + result_line(Died("y", "alone", 1.0))
    )
    (tmp_path / "notes.txt").write_text("none of ours")
    results = ResultFolder(tmp_path)
    assert results.kept() == [Answered("x", "late", 3.0), Died("y", "alone", 1.0)]
    (tmp_path / "e.1.jsonl").write_bytes(result_line(Answered("z", "new", 1.0)))
    assert list(results.read()) == [Answered("z", "new", 1.0)]


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
        (
            "sbatch: error: Job violates accounting/QOS policy (job submit limit, user's size)",
            UsageError,
            "larger chunk",
        ),
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
