"""What a process that handles a stranger's files gives up before it looks at them, as far as the platform takes it.

Linux: seccomp refuses sockets other than local ones, other programs and what reaches into other processes; Landlock
refuses writes outside a scratch folder, TCP, and signals to others. Neither needs privileges, and neither can be undone
by the process or by its children. Elsewhere nothing here holds, and `held` says so.

Numbers and layouts: linux/seccomp.h, linux/landlock.h, linux/audit.h, asm/unistd.h of Linux 6.12, which do not change.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_WRITE_FILE, _TRUNCATE, _REFER = 1 << 1, 1 << 14, 1 << 13
_MAKE_AND_REMOVE = sum(1 << bit for bit in range(4, 13))
_TCP, _SIGNALS_AND_ABSTRACT_SOCKETS = 3, 3
_ABI_OF_REFER, _ABI_OF_TRUNCATE, _ABI_OF_TCP, _ABI_OF_SCOPES = 2, 3, 4, 6
_WRITABLE = ("/dev",)
"""Folders whose files may be written beside the scratch folder: devices of GPUs, and shared memory."""


_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Variables of which no reader of files has a need."""


@dataclass(frozen=True)
class _Machine:
    """The numbers of system calls on one architecture."""

    audit: int
    socket: int
    programs: tuple[int, ...]
    """execve, execveat, unshare."""
    refused: tuple[int, ...]
    """ptrace, process_vm_*, bpf, perf_event_open, mounts, setns, keys, userfaultfd, modules, kexec, io_uring."""


_IO_URING_AND_PIDFD_GETFD = (425, 426, 427, 438)
_MACHINES = {
    "x86_64": _Machine(
        0xC000003E,
        41,
        (59, 322, 272),
        (101, 310, 311, 321, 298, 165, 166, 308, 248, 249, 250, 323, 175, 313, 246, *_IO_URING_AND_PIDFD_GETFD),
    ),
    "aarch64": _Machine(
        0xC00000B7,
        198,
        (221, 281, 97),
        (117, 270, 271, 280, 241, 40, 39, 268, 217, 218, 219, 282, 105, 273, 104, *_IO_URING_AND_PIDFD_GETFD),
    ),
}
_X32 = 0x40000000
"""From here on x86-64 has the same calls under other numbers."""
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_EPERM, _EACCES = 1, 13
_NR, _ARCH, _FIRST_ARGUMENT = 0, 4, 16


@dataclass(frozen=True)
class Fence:
    """What the process keeps of what it could do."""

    scratch: Path | None
    """The folder in which files may be made and written; None: wherever the user may (the user chose the code)."""
    programs: bool = False
    """Whether other programs may be started, and namespaces left."""
    sockets: bool = False
    """Whether the network may be asked."""


@dataclass(frozen=True)
class Held:
    """What of it holds, seen by trying it in a process of its own."""

    network: bool
    files: bool
    programs: bool
    time_and_memory: bool


def confine(fence: Fence) -> None:
    """Gives up, in this process and for good, what `fence` does not keep; what the kernel does not take is kept.

    Call it in a child that has one thread and no open file but its own.
    """
    for name in _TOKENS:
        os.environ.pop(name, None)
    if sys.platform != "linux":
        return
    with suppress(OSError):  # the kernel, short of memory, ends this process before any other
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return
    if fence.scratch is not None:
        os.environ["TMPDIR"] = str(fence.scratch)
        for cache in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH"):
            os.environ[cache] = str(fence.scratch / cache.lower())
        tempfile.tempdir = None
        _fence_files(fence.scratch, sockets=fence.sockets)
    _filter_calls(fence)


def bound_cpu(seconds: float | None) -> None:
    """From now on it may take that much processor time, then the kernel ends it with SIGXCPU; None: no bound."""
    most = resource.RLIM_INFINITY if seconds is None else int(time.process_time() + seconds) + 1
    _limit(resource.RLIMIT_CPU, most)


def bound_memory(num_bytes: int | None) -> None:
    """From now on it may write to that much memory more than it holds; then it is given none. None: no bound.

    RLIMIT_DATA, which Linux counts by what may be written: address space that is only reserved, and mapped files, do
    not count.
    """
    counts = Path("/proc/self/statm")
    if not counts.is_file():
        return
    if num_bytes is None:
        _limit(resource.RLIMIT_DATA, resource.RLIM_INFINITY)
        return
    held = int(counts.read_text(encoding="ascii").split()[5]) * resource.getpagesize()
    _limit(resource.RLIMIT_DATA, held + num_bytes)


def _limit(which: int, most: int) -> None:
    """The soft limit, which the process itself may raise again up to the hard one."""
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY and (most == resource.RLIM_INFINITY or most > hard):
        most = hard
    resource.setrlimit(which, (most, hard))


# --- files: Landlock ---------------------------------------------------------------------------------------------


def _fence_files(scratch: Path, *, sockets: bool) -> None:
    """Reading is left as it was: Python imports, and libraries are found, from anywhere."""
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return
    writing = _WRITE_FILE | _MAKE_AND_REMOVE
    writing |= _REFER if abi >= _ABI_OF_REFER else 0
    writing |= _TRUNCATE if abi >= _ABI_OF_TRUNCATE else 0
    asked = struct.pack("=Q", writing)
    asked += struct.pack("=Q", 0 if sockets else _TCP) if abi >= _ABI_OF_TCP else b""
    asked += struct.pack("=Q", _SIGNALS_AND_ABSTRACT_SOCKETS) if abi >= _ABI_OF_SCOPES else b""
    rules = libc.syscall(_LANDLOCK_CREATE_RULESET, asked, ctypes.c_size_t(len(asked)), 0)
    if rules < 0:
        return
    for path in (str(scratch), *_WRITABLE):
        with suppress(OSError):
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            libc.syscall(_LANDLOCK_ADD_RULE, rules, 1, struct.pack("=Qi", writing, folder), 0)
            os.close(folder)
    libc.syscall(_LANDLOCK_RESTRICT_SELF, rules, 0)
    os.close(rules)


# --- system calls: seccomp ---------------------------------------------------------------------------------------


def _filter_calls(fence: Fence) -> None:
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return
    program = b"".join(_program(machine, fence))
    held = ctypes.create_string_buffer(program)
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held))
    ctypes.CDLL(None).prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, head, 0, 0)


def _program(machine: _Machine, fence: Fence) -> Iterator[bytes]:
    """The filter, one instruction at a time (struct sock_filter); jumps count the instructions they leave out."""

    def step(code: int, k: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("=HBBI", code, then, otherwise, k)

    refused = machine.refused + (() if fence.programs else machine.programs)
    yield step(_LOAD, _ARCH)
    yield step(_EQUAL, machine.audit, 1, 0)
    yield step(_RETURN, _REFUSE | _EPERM)  # a 32-bit program's calls
    yield step(_LOAD, _NR)
    yield step(_AT_LEAST, _X32, 0, 1)
    yield step(_RETURN, _REFUSE | _EPERM)
    for number in refused:
        yield step(_EQUAL, number, 0, 1)
        yield step(_RETURN, _REFUSE | _EPERM)
    yield step(_EQUAL, machine.socket, 0 if fence.sockets else 1, 0)
    yield step(_RETURN, _ALLOW)
    yield step(_LOAD, _FIRST_ARGUMENT)
    yield step(_EQUAL, int(socket.AF_UNIX), 1, 0)
    yield step(_RETURN, _REFUSE | _EACCES)
    yield step(_RETURN, _ALLOW)


# --- what holds here ---------------------------------------------------------------------------------------------


def held() -> Held:
    """Tries it: a process of its own is confined, and then does what it must not be able to."""
    if sys.platform != "linux":
        return Held(network=False, files=False, programs=False, time_and_memory=False)
    with tempfile.TemporaryDirectory(prefix="wirecheck-") as folder:
        inside, outside = Path(folder, "inside"), Path(folder, "outside")
        inside.mkdir()
        pid = os.fork()
        if pid == 0:
            code = 255
            try:
                confine(Fence(inside))
                bound_memory(1 << 28)
                tried = (_connects, outside.touch, _starts_a_program, lambda: bytes(1 << 32))
                code = sum(1 << place for place, one in enumerate(tried) if _is_refused(one))
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    bits = [bool(code >> place & 1) for place in range(4)] if 0 <= code < 16 else [False] * 4  # noqa: PLR2004
    return Held(*bits)


def _is_refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except (OSError, MemoryError):
        return True
    return False


def _connects() -> None:
    for family, kind in ((socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM)):
        socket.socket(family, kind).close()


def _starts_a_program() -> None:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
    os.waitpid(pid, 0)
