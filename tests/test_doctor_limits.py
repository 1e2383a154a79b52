"""`wirecheck doctor` on memory, CPUs, disks and Slurm: each where it is sound and where it is not."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import psutil
import pytest
from huggingface_hub import constants

from tests.looks import one, tool
from wirecheck import doctor_disk, doctor_limits, doctor_slurm
from wirecheck.machine_records import good

GIB = 2**30


# --- memory and CPUs ---------------------------------------------------------------------------------------------


def cgroup(root: Path, **files: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)


@pytest.fixture
def v2(tmp_path, monkeypatch):
    """A tree of cgroups v2, this process in /job/step."""
    cgroup(tmp_path / "cg", cgroup__controllers="cpu memory")
    (tmp_path / "own").write_text("0::/job/step\n")
    monkeypatch.setattr(doctor_limits, "CGROUPS", tmp_path / "cg")
    monkeypatch.setattr(doctor_limits, "OWN", tmp_path / "own")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path / "cg"


def test_without_limits_the_machine_is_told(v2):
    (memory,), (cpu,) = doctor_limits.memory(), doctor_limits.cpus()
    assert "no cgroup limits it" in memory.seen
    assert (cpu.sound, "no cgroup limits their time" in cpu.seen) == (True, True)


def test_a_cgroup_above_that_leaves_too_little_memory_is_not_sound(v2):
    stat = "inactive_file 0\nactive_file 0\n"
    cgroup(v2 / "job", memory__max=str(3 * GIB), memory__current=str(5 * GIB // 2), memory__stat=stat)
    cgroup(v2 / "job" / "step", memory__max="max", memory__events="low 0\noom 3\noom_kill 2\n")
    (found,) = doctor_limits.memory()
    assert (found.sound, "--mem" in found.mend) == (False, True)
    assert found.seen.startswith("512 MiB can be had")
    assert "limit is 3 GiB" in found.seen
    assert "ended 2 processes" in found.seen


def test_a_cgroup_that_leaves_enough_is_sound(v2, monkeypatch):
    here = psutil.virtual_memory()._replace(total=64 * GIB, available=32 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: here)
    stat = "inactive_file 0\nactive_file 0\n"
    cgroup(v2 / "job" / "step", memory__max=str(8 * GIB), memory__current=str(GIB), memory__stat=stat)
    (found,) = doctor_limits.memory()
    assert (found.sound, found.seen.startswith("7 GiB can be had of the machine's 64 GiB")) == (True, True)


def test_cpu_time_that_a_cgroup_withholds(v2, monkeypatch):
    monkeypatch.setattr(doctor_limits.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    cgroup(v2 / "job" / "step", cpu__max="250000 100000")
    (found,) = doctor_limits.cpus()
    assert (found.sound, "the time of 2.5" in found.seen) == (True, True)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    (found,) = doctor_limits.cpus()
    assert (found.sound, found.mend) == (False, "export OMP_NUM_THREADS=2")
    cgroup(v2 / "job", cpu__max="50000 100000")
    (found,) = doctor_limits.cpus()
    assert (found.sound, "whole CPU" in found.mend) == (False, True)


def test_cgroups_of_the_first_version_are_read_too(tmp_path):
    cg, own = tmp_path / "cg", tmp_path / "own"
    own.write_text("4:memory:/slurm/job\n3:cpu,cpuacct:/slurm/job\n")
    stat = f"total_inactive_file {GIB}\ntotal_active_file 0\n"
    limit = {"memory__limit_in_bytes": str(4 * GIB), "memory__usage_in_bytes": str(3 * GIB), "memory__stat": stat}
    cgroup(
        cg / "memory" / "slurm" / "job", **limit, memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"
    )
    cgroup(cg / "memory", memory__limit_in_bytes=str(2**63 - 4096), memory__usage_in_bytes="9")
    cgroup(cg / "cpu" / "slurm" / "job", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    cgroup(cg / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert doctor_limits.of_cgroups(cg, own) == doctor_limits.Limits(4 * GIB, 2 * GIB, 1.5, 1)


# --- disks -------------------------------------------------------------------------------------------------------


def test_a_folder_that_can_be_made_is_sound_and_is_not_made(tmp_path):
    checks = list(doctor_disk._folder("cache", tmp_path / "a" / "b", "mend", 1000))
    assert [check.sound for check in checks] == [True] * 3
    assert "can be made" in checks[0].seen
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_refuses_a_file_is_not_sound(tmp_path, monkeypatch):
    def full(*args, **more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(doctor_disk.tempfile, "TemporaryFile", full)
    (found,) = doctor_disk._folder("cache", tmp_path, "mend", 1000)
    assert (found.sound, "Read-only" in found.seen) == (False, True)


def test_more_than_the_disk_has_free_is_not_sound_and_not_reserved(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_disk, "reserved", None)
    found = one(doctor_disk._folder("cache", tmp_path, "mend", 2**60), "cache: room")
    assert (found.sound, found.seen.endswith("GiB asked for")) == (False, True)


def test_the_hubs_cache_is_to_be_writable_unless_offline(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    (found,) = doctor_disk.hub_cache(None, offline=False)
    assert (found.sound, "HF_HOME" in found.mend) == (False, True)
    (found,) = doctor_disk.hub_cache(None, offline=True)
    assert (found.sound, "nothing is written" in found.seen) == (True, True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert "64 MiB asked for" in one(doctor_disk.hub_cache(64 << 20, offline=False), "hub cache: room").seen


@pytest.mark.parametrize(
    ("code", "sound", "said"),
    [
        (0, True, "granted"),
        (errno.EDQUOT, False, "quota exceeded"),
        (errno.ENOSPC, False, "No space left"),
        (errno.EOPNOTSUPP, True, "not told by this file system"),
    ],
)
def test_a_quota_is_asked_by_reserving(tmp_path, monkeypatch, code, sound, said):
    monkeypatch.setattr(doctor_disk.sys, "platform", "linux")
    monkeypatch.setattr(doctor_disk, "fallocate", lambda file, count: code)
    monkeypatch.setattr(doctor_disk, "_file_system", lambda folder: "ext4")
    found = one(doctor_disk._folder("cache", tmp_path, "mend", 1000), "cache: room")
    assert (found.sound, said in found.seen) == (sound, True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fallocate is Linux's")
def test_the_call_itself_reserves_and_refuses(tmp_path):
    with (tmp_path / "f").open("wb") as file:
        code = doctor_disk.fallocate(file.fileno(), 1 << 20)
        if code == errno.EOPNOTSUPP:
            pytest.skip("this file system does not reserve")
        held = (tmp_path / "f").stat()
        assert (code, held.st_size, held.st_blocks * 512 >= 1 << 20) == (0, 0, True)
        assert doctor_disk.fallocate(file.fileno(), 1 << 60) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def test_memory_that_looks_like_a_disk_is_not_reserved(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_disk, "_file_system", lambda folder: "tmpfs")
    monkeypatch.setattr(doctor_disk, "fallocate", None)
    assert "memory" in doctor_disk.reserved(tmp_path, 1000) or not sys.platform.startswith("linux")


def test_a_disk_without_room_for_more_files_is_not_sound(tmp_path, monkeypatch):
    room = os.statvfs(tmp_path)
    for left, sound in ((5, False), (10**6, True)):
        fields = [*room[:5], 10**7, left, left, *room[8:]]
        monkeypatch.setattr(doctor_disk.os, "statvfs", lambda _, fields=fields: os.statvfs_result(fields))
        assert one(doctor_disk._folder("cache", tmp_path, "mend", 1000), "cache: files").sound is sound


# --- Slurm -------------------------------------------------------------------------------------------------------


def test_slurm_absent_present_and_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert list(doctor_slurm.slurm()) == [good("slurm", "no Slurm here")]
    tool(tmp_path / "bin", "sinfo", "echo slurm 24.05.1")
    tool(tmp_path / "bin", "sbatch", "exit 1")
    assert list(doctor_slurm.slurm()) == [good("slurm", "slurm 24.05.1; not inside a job; not on PATH: srun")]
    tool(tmp_path / "bin", "sinfo", "echo 'sinfo: fatal: Could not establish a configuration source' >&2; exit 1")
    assert one(doctor_slurm.slurm(), "slurm").seen.startswith("its commands are here, and no cluster is configured")
    assert one(doctor_slurm.slurm(), "slurm").sound
    tool(tmp_path / "bin", "sinfo", "echo slurm 24.05.1")
    for name, value in (("SLURM_JOB_ID", "42"), ("SLURMD_NODENAME", "n1"), ("SLURM_CPUS_ON_NODE", "8")):
        monkeypatch.setenv(name, value)
    (found,) = doctor_slurm.slurm()
    assert "inside job 42, on node n1, 8 CPUs on the node" in found.seen
    tool(tmp_path / "bin", "sinfo", "echo 'cannot load config' >&2; exit 1")
    (found,) = doctor_slurm.slurm()
    assert (found.sound, "cannot load config" in found.seen) == (False, True)
    monkeypatch.setattr(doctor_slurm, "LIMIT_S", 0.2)
    tool(tmp_path / "bin", "sinfo", "exec /bin/sleep 30")
    (found,) = doctor_slurm.slurm()
    assert (found.sound, "does not answer" in found.seen) == (False, True)
