"""Which device real weights run on, how much memory is there, and what is said where it ran out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wirecheck import devices
from wirecheck.errors import CannotRun
from wirecheck.limits import machine_limit
from wirecheck.schema import Policy
from wirecheck.wires.failure import OutOfMemory, part

GIB = 2**30


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """A machine where torch sees those accelerators."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in names)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in names)


# --- the choice --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "chosen"), [(("cuda", "mps"), "cuda"), (("mps",), "mps"), ((), "cpu")], ids=["cuda", "mps", "cpu"]
)
def test_auto_is_the_fastest_there_is(monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], chosen: str) -> None:
    only(monkeypatch, *there)
    assert devices.choose(Policy()) == chosen


def test_the_device_asked_for_goes_before_a_faster_one(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "cuda", "mps")
    assert devices.choose(Policy(device="mps")) == "mps"
    assert devices.choose(Policy(device="cpu")) == "cpu"


@pytest.mark.parametrize("asked", ["cuda", "mps"])
def test_a_device_that_is_not_there_names_the_option_to_type(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    only(monkeypatch)
    with pytest.raises(CannotRun, match=f"--device {asked} was asked for, .*`--device cpu` runs the real weights here"):
        devices.choose(Policy(device=asked))


def test_a_warning_about_an_old_driver_stays_off_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    def old_driver() -> bool:
        import warnings

        warnings.warn("the NVIDIA driver on your system is too old", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", old_driver)
    assert "cpu" in devices.available()


def test_the_meter_of_a_gpu_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    with pytest.raises(CannotRun, match="no CUDA device on this machine"):
        devices.CudaMeter()


# --- free memory -------------------------------------------------------------------------------------------------


def cgroup(folder: Path, most: str, held: int, of_files: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{held}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {of_files}\nactive_file 0\n")


def test_free_memory_is_that_of_the_tightest_group_above_the_process(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/slurm/job_7/step_0\n")
    root = tmp_path / "fs"
    cgroup(root / "slurm" / "job_7" / "step_0", "max", 3 * GIB)
    cgroup(root / "slurm" / "job_7", str(8 * GIB), 3 * GIB)
    cgroup(root / "slurm", str(64 * GIB), 3 * GIB)
    cgroup(tmp_path, str(GIB), GIB)  # above the root: not ours
    assert min(devices.cgroup_allowances(root, own)) == 5 * GIB


def test_pages_of_files_count_as_free(tmp_path: Path) -> None:
    cgroup(tmp_path, str(8 * GIB), 8 * GIB, of_files=6 * GIB)
    assert min(devices.cgroup_allowances(tmp_path, tmp_path / "none")) == 6 * GIB


def test_no_cgroup_limits_nothing(tmp_path: Path) -> None:
    assert min(devices.cgroup_allowances(tmp_path, tmp_path / "none")) == 2**63 - 1
    assert 0 < devices.free_bytes() < 2**63 - 1


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (9, "9 bytes"),
        (64 * 2**20, "64 MiB"),
        (int(3.214 * GIB), "3.21 GiB"),
        (16 * GIB, "16 GiB"),
        (4000 * GIB, "4000 GiB"),
    ],
)
def test_sizes_in_words(count: int, words: str) -> None:
    assert devices.size(count) == words


# --- out of memory -----------------------------------------------------------------------------------------------

CPU = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    f"{200 * GIB} bytes. Error code 12 (Cannot allocate memory)"
)
CUDA = (
    "CUDA out of memory. Tried to allocate 20.50 GiB. GPU 0 has a total capacity of 79.15 GiB of which 9.38 MiB is "
    "free. Including non-PyTorch memory, this process has 79.13 GiB memory in use."
)
CUDA_OLD = (
    "CUDA out of memory. Tried to allocate 512.00 MiB (GPU 0; 14.76 GiB total capacity; 13.30 GiB already allocated; "
    "1.25 GiB free; 13.5 GiB reserved in total by PyTorch)"
)
MPS = (
    "MPS backend out of memory (MPS allocated: 17.20 GB, other allocations: 1.01 GB, max allowed: 18.13 GB). "
    "Tried to allocate 256.00 MB on private pool."
)
NUMPY = "Unable to allocate 2.00 GiB for an array with shape (536870912,)"

SHORTAGES = [
    (RuntimeError(CPU), "200 GiB more were asked for, and 3 GiB are free"),
    (RuntimeError(CUDA), "20.5 GiB more were asked for, and 9.38 MiB were free on the GPU"),
    (RuntimeError(CUDA_OLD), "512 MiB more were asked for, and 1.25 GiB were free on the GPU"),
    (RuntimeError(MPS), "244 MiB more were asked for, and 16.9 GiB is the most the GPU allows"),
    (MemoryError(NUMPY), "2 GiB more were asked for, and 3 GiB are free"),
    (MemoryError(), "the error does not say how much was asked, and 3 GiB are free"),
    (
        RuntimeError("CUDA error: out of memory"),
        "the error does not say how much was asked, and the GPU did not say what was free",
    ),
]


@pytest.mark.parametrize(
    ("error", "words"), SHORTAGES, ids=["cpu", "cuda", "cuda, old", "mps", "numpy", "bare", "bare cuda"]
)
def test_out_of_memory_says_the_bytes_needed_and_had(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    monkeypatch.setattr(devices, "free_bytes", lambda: 3 * GIB)
    assert machine_limit(error) == f"not enough memory on this machine: {words}"
    wrapped = ValueError("could not load")
    wrapped.__cause__ = error
    assert machine_limit(wrapped) == machine_limit(error)
    with (
        pytest.raises(OutOfMemory, match=f"^not enough memory on this machine for encoder: {words}"),
        part("step"),
        part("encoder"),
    ):
        raise error


def test_what_torch_itself_says_here_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58, dtype=torch.uint8)
    limit = machine_limit(caught.value)
    assert limit is not None
    assert "268435456 GiB more were asked for" in limit
