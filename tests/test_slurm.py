"""The Slurm executor against real daemons: a throw-away cluster of four nodes, on which everything goes wrong.

Whatever happens, each name is told exactly once. Skipped where Slurm is not installed: `make slurm` installs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import slurm_work
from wirecheck.errors import UsageError
from wirecheck.fork_pool import Answered, Died
from wirecheck.slurm_pool import SlurmPool
from wirecheck.slurm_queue import Slurm
from wirecheck.slurm_records import JobLog, SlurmOptions

ROOT = Path(__file__).parents[1]
Outcomes = dict[str, Answered | Died]


@dataclass(frozen=True)
class Cluster:
    """Four nodes of four CPUs on this host."""

    lab: Path

    def __call__(self, *words: str) -> None:
        done = subprocess.run([ROOT / "tools" / "slurm_up.sh", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def end_daemon(self, node: int) -> None:
        """Only the daemon: what runs on the node goes on, and Slurm takes it for lost."""
        os.kill(int((self.lab / "run" / f"node{node}.pid").read_text()), signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    lacking = [
        tool
        for tool in ("munged", "slurmctld", "slurmd")
        if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin")
    ]
    if lacking:
        pytest.skip(f"{', '.join(lacking)} not installed: make slurm")
    lab = tmp_path_factory.mktemp("slurm") / "lab"
    port = 20_000 + os.getpid() % 10_000
    with pytest.MonkeyPatch.context() as patch:
        settings = {"SLURM_LAB": lab, "SLURM_LAB_PORT": port, "NODES": 4, "TIMEOUT": 3, "REQUEUE": 5}
        for name, value in {**settings, "SLURM_CONF": lab / "etc" / "slurm.conf"}.items():
            patch.setenv(name, str(value))
        patch.chdir(ROOT)  # jobs start here, and import what they are to do
        one = Cluster(lab)
        one("up")
        try:
            yield one
        finally:
            one("wipe")


def options(**asked: object) -> SlurmOptions:
    return SlurmOptions(**{"memory": "100M", "pause_s": 0.5, **asked})


def collected(pool: SlurmPool, names: Sequence[str], work: Callable[[str], str], *, limit_s: float = 60) -> Outcomes:
    outcomes = list(pool.run(names, work, limit_s=limit_s))
    assert sorted(one.name for one in outcomes) == sorted(names)
    return {one.name: one for one in outcomes}


def texts(outcomes: Outcomes) -> list[str]:
    """Nodes and restarts, as the work tells them; every item was answered."""
    assert [one for one in outcomes.values() if isinstance(one, Died)] == []
    return [one.text for one in outcomes.values() if isinstance(one, Answered)]


def keys(count: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]


@dataclass
class Aside:
    """One run in a thread, because it takes as long as Slurm's own clock: its warnings come every 30 s."""

    pool: SlurmPool
    outcomes: list[Answered | Died] = field(default_factory=list)

    def start(self) -> None:
        names = ["a", "b", "long", "c", "d"]
        self.thread = threading.Thread(
            target=lambda: self.outcomes.extend(self.pool.run(names, slurm_work.stuck_at_first, limit_s=300))
        )
        self.thread.start()


@pytest.fixture(scope="module")
def timed_out(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aside]:
    """An element that comes to its time limit; begun before all others, on the node that nothing happens to."""
    pool = SlurmPool(
        tmp_path_factory.mktemp("time"), options(minutes=1, warning_s=20, chunk=5, extra={"nodelist": "node1"})
    )
    aside = Aside(pool)
    aside.start()
    yield aside
    with contextlib.suppress(Exception):
        pool.cancel()
    aside.thread.join()


def test_sixty_over_the_nodes_and_what_dies_dies_alone(cluster: Cluster, timed_out: Aside, tmp_path: Path) -> None:
    names = [*keys(57), "abort", "hang", "poison"]
    outcomes = collected(SlurmPool(tmp_path, options(chunk=4, tries=1)), names, slurm_work.brief, limit_s=2)
    died = {name: outcomes.pop(name) for name in ("abort", "hang", "poison")}
    assert len({text.split()[0] for text in texts(outcomes)}) >= 3
    assert all(isinstance(one, Died) for one in died.values())
    assert died["abort"].why == "its process was ended by SIGABRT"
    assert died["hang"].why == "still running after its time limit of 2 s"
    assert died["poison"].why.startswith("its job ")
    assert "ended as FAILED" in died["poison"].why
    assert died["poison"].why.endswith("(the last of 2 tries)")


def test_a_node_that_goes_and_a_daemon_whose_jobs_go_on(
    cluster: Cluster, timed_out: Aside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "marks").mkdir()
    monkeypatch.setenv("WIRECHECK_TEST_MARKS", str(tmp_path / "marks"))
    names = keys(16)
    outcomes = []
    for outcome in SlurmPool(tmp_path, options(chunk=4)).run(names, slurm_work.echoed, limit_s=100):
        if not outcomes:
            cluster("lose", "2")
            cluster.end_daemon(3)
        outcomes.append(outcome)
    assert sorted(one.name for one in outcomes) == sorted(names)
    assert len([text for text in texts({one.name: one for one in outcomes}) if text.endswith(" 1")]) >= 2
    files = list((tmp_path / "results").iterdir())
    deadline = time.monotonic() + 20
    while (lines := sum(path.read_text().count("\n") for path in files)) <= 16 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert lines > 16, "what went on without its daemon answered too"
    assert len(JobLog(tmp_path / "jobs.jsonl").jobs) == 1
    for node in "23":
        cluster("lose", node)
        cluster("join", node)


SUBMITTER = """
import sys
from pathlib import Path
from tests import slurm_work
from tests.test_slurm import keys, options
from wirecheck.slurm_pool import SlurmPool
for outcome in SlurmPool(Path(sys.argv[1]), options(chunk=4)).run(keys(16), slurm_work.steady, limit_s=60):
    print(outcome.name, flush=True)
"""


def test_a_submitter_is_killed_and_the_next_one_attaches(cluster: Cluster, timed_out: Aside, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SUBMITTER, tmp_path], stdout=subprocess.PIPE, cwd=ROOT) as submitter:
        assert submitter.stdout.readline()
        submitter.kill()
    outcomes = collected(SlurmPool(tmp_path, options(chunk=4)), keys(16), slurm_work.steady)
    assert len(texts(outcomes)) == 16
    assert len(JobLog(tmp_path / "jobs.jsonl").jobs) == 1


def test_a_death_before_the_job_is_noted_costs_only_work(
    cluster: Cluster, timed_out: Aside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    pool = SlurmPool(tmp_path, options(chunk=4))
    with monkeypatch.context() as patch:
        patch.setattr(JobLog, "submitted", die)
        with pytest.raises(KeyboardInterrupt):
            list(pool.run(keys(8), slurm_work.steady, limit_s=60))
    assert len(texts(collected(pool, keys(8), slurm_work.steady))) == 8
    assert "CANCELLED" in {state.name for state in pool.queue.states().values()}


def test_a_cancelled_run_leaves_the_queue(cluster: Cluster, timed_out: Aside, tmp_path: Path) -> None:
    pool = SlurmPool(tmp_path, options(chunk=4))
    outcomes = pool.run(keys(12), slurm_work.steady, limit_s=60)
    first = next(outcomes)
    outcomes.close()
    pool.cancel()
    assert {state.name for state in pool.queue.states().values()} <= {"CANCELLED", "COMPLETED", "COMPLETING"}
    assert first in list(pool.run([first.name], slurm_work.steady, limit_s=60))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A run's folder whose results are on a disk of 64 kB."""
    results = tmp_path / "run" / "results"
    results.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", results], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no disk can be mounted here, so none can be full")
    yield results.parent
    subprocess.run(["umount", "--lazy", results], check=True)


def test_a_full_disk_is_told_and_room_is_used(cluster: Cluster, timed_out: Aside, small_disk: Path) -> None:
    outcomes = collected(SlurmPool(small_disk, options(chunk=6, tries=0)), keys(6), slurm_work.wide)
    died = [one for one in outcomes.values() if isinstance(one, Died)]
    assert 2 <= len(died) <= 4
    assert all("ended as FAILED: wirecheck: No space left on device" in one.why for one in died)
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk / "results"], check=True)
    assert len(texts(collected(SlurmPool(small_disk, options(chunk=6)), keys(6), slurm_work.wide))) == 6


def test_a_partition_that_is_not_there(cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pool = SlurmPool(tmp_path, options(partition="nosuch"))
    with pytest.raises(UsageError, match="sbatch refused the job: invalid partition specified: nosuch") as caught:
        list(pool.run(["a"], slurm_work.brief, limit_s=9))
    assert caught.value.next_step.startswith("sinfo --summarize")
    assert capfd.readouterr() == ("", "")


def test_a_controller_that_is_away(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (cluster.lab / "etc" / "slurm.conf").read_text()
    (tmp_path / "slurm.conf").write_text(text.replace("SlurmctldPort=", "SlurmctldPort=1"))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    assert Slurm(tmp_path, "wirecheck-none", options()).states() is None


def test_an_element_loads_no_more_than_its_work(cluster: Cluster, tmp_path: Path) -> None:
    assert texts(collected(SlurmPool(tmp_path, options()), ["a"], slurm_work.loaded)) == [""]


def test_an_element_at_its_time_limit_is_queued_again(timed_out: Aside) -> None:
    timed_out.thread.join(120)
    assert sorted(one.name for one in timed_out.outcomes) == ["a", "b", "c", "d", "long"]
    told = {one.name: one.text for one in timed_out.outcomes if isinstance(one, Answered)}
    assert told["a"] == told["b"] == "node1 0"
    assert told["long"] == told["d"] == "node1 1"
    assert len(JobLog(timed_out.pool.folder / "jobs.jsonl").jobs) == 1
