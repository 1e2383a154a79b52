"""The fence: what a confined process cannot do, each tried, and what it still can."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from wirecheck import confinement
from wirecheck.confinement import Fence, bound_cpu, bound_memory, confine, held

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fence is Linux's")


def confined(action: Callable[[], object], fence: Fence) -> str:
    """What `action` gives in a confined child, or the name of the error it met."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            confine(fence)
            os.write(writer, repr(action()).encode())
        except BaseException as error:  # noqa: BLE001
            os.write(writer, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read().decode()
    status = os.waitpid(pid, 0)[1]
    return told or signal.Signals(os.WTERMSIG(status)).name


@pytest.fixture
def fence(tmp_path):
    """A fence with its scratch folder, where this kernel has what it is made of."""
    if not all(vars(held()).values()):
        pytest.skip(f"this kernel does not take all of it: {held()}")
    (tmp_path / "scratch").mkdir()
    return Fence(tmp_path / "scratch")


def connects(family: int, kind: int) -> None:
    socket.socket(family, kind).close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET])
def test_no_socket_leaves_the_machine(fence, family):
    assert confined(lambda: connects(family, socket.SOCK_DGRAM), fence) == "PermissionError"


def test_local_sockets_and_pairs_of_them_are_left(fence):
    assert confined(lambda: connects(socket.AF_UNIX, socket.SOCK_STREAM), fence) == "None"
    assert confined(lambda: len(socket.socketpair()), fence) == "2"


def test_a_fence_with_sockets_leaves_the_network(fence):
    open_fence = Fence(fence.scratch, programs=True, sockets=True)
    assert confined(lambda: connects(socket.AF_INET, socket.SOCK_STREAM), open_fence) == "None"


WRITES = {
    "write": lambda path: (path / "there").write_text("x"),
    "make": lambda path: (path / "new").touch(),
    "truncate": lambda path: os.truncate(path / "there", 0),
    "remove": lambda path: (path / "there").unlink(),
    "folder": lambda path: (path / "folder").mkdir(),
    "link": lambda path: (path / "link").symlink_to("there"),
    "pipe": lambda path: os.mkfifo(path / "pipe"),
    "away": lambda path: (path / "there").rename(path / "scratch" / "there"),
    "into": lambda path: (path / "scratch" / "own").rename(path / "own"),
}


@pytest.mark.parametrize("how", sorted(WRITES))
def test_nothing_is_written_outside_the_scratch_folder(fence, tmp_path, how):
    (tmp_path / "there").write_text("what stood there")
    (tmp_path / "scratch" / "own").touch()
    before = sorted(tmp_path.iterdir())
    assert confined(lambda: WRITES[how](tmp_path), fence) in ("PermissionError", "OSError")
    assert (sorted(tmp_path.iterdir()), (tmp_path / "there").read_text()) == (before, "what stood there")


@pytest.mark.parametrize("how", sorted(set(WRITES) - {"away", "into"}))
def test_the_same_is_done_inside_and_without_a_fence(fence, tmp_path, how):
    for place, one in ((fence.scratch, fence), (tmp_path, Fence(None))):
        (place / "there").write_text("x")
        assert confined(lambda place=place: WRITES[how](place), one) not in ("PermissionError", "OSError")


def test_temporary_files_are_made_inside(fence):
    def made() -> bool:
        with tempfile.NamedTemporaryFile() as file:
            return Path(file.name).is_relative_to(fence.scratch)

    assert confined(made, fence) == "True"


def test_reading_goes_on_and_python_imports(fence):
    assert confined(lambda: len(Path(__file__).read_text()) > 100, fence) == "True"
    assert confined(lambda: __import__("wave").__name__, fence) == "'wave'"


def test_no_program_is_started(fence):
    program = shutil.which("true")
    assert confined(lambda: subprocess.run([program], check=True).returncode, fence) == "PermissionError"
    assert confined(lambda: subprocess.run([program], check=True).returncode, Fence(None, programs=True)) == "0"


def test_no_other_process_is_reached(fence):
    parent = os.getpid()
    assert confined(lambda: os.kill(parent, signal.SIGUSR2), fence) == "PermissionError"

    def attach() -> int:
        return int(ctypes.CDLL(None, use_errno=True).ptrace(16, parent, None, None))

    assert confined(attach, fence) == "-1"
    assert confined(lambda: os.open(f"/proc/{parent}/mem", os.O_RDWR), fence) == "PermissionError"


def test_a_child_of_its_own_is_fenced_as_well(fence):
    def below() -> int:
        pid = os.fork()
        if pid == 0:
            try:
                connects(socket.AF_INET, socket.SOCK_STREAM)
            except PermissionError:
                os._exit(7)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert confined(below, fence) == "7"


def test_the_fence_cannot_be_taken_down(fence, tmp_path):
    def again() -> None:
        confine(Fence(tmp_path, programs=True, sockets=True))
        connects(socket.AF_INET, socket.SOCK_STREAM)

    assert confined(again, fence) == "PermissionError"


def test_memory_is_bounded_by_what_is_written_and_the_bound_is_taken_away():
    def grow() -> str:
        bound_memory(1 << 26)
        try:
            bytes(1 << 32)  # above what the allocator keeps for itself
        except MemoryError:
            bound_memory(None)
            return f"bounded, then {len(bytearray(1 << 28)):,}"
        return "not bounded"

    assert confined(grow, Fence(None)) == repr(f"bounded, then {1 << 28:,}")


def test_processor_time_is_bounded():
    def spin() -> None:
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        bound_cpu(0)
        while True:
            pass

    assert confined(spin, Fence(None)) == "SIGXCPU"


def test_what_holds_is_seen_by_trying_it(monkeypatch):
    assert held().time_and_memory
    monkeypatch.setattr(confinement, "confine", lambda _: None)
    assert (held().network, held().files, held().programs) == (False, False, False)
