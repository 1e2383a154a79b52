"""What an error says of this machine, and not of the model: no memory, no such operation on its CPU, no such package.

Torch-free: errors are known by their type and their words.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from wirecheck import devices
from wirecheck.errors import CannotRun

_NO_MEMORY = re.compile(r"(?:can't|cannot) allocate memory|not enough memory|out of memory", re.IGNORECASE)
"""torch's CPU allocator raises a plain RuntimeError; mmap and CUDA have words of their own."""
_NO_KERNEL = re.compile(r"not implemented for '(?:Half|BFloat16|Float8_\w+)'")
"""An operation that the CPU has for wider types: for those (and for integers) its absence is the caller's error."""
_AMOUNT = r"(\d+(?:\.\d+)?) ?(bytes|[KMG]i?B)"
_ASKED = re.compile(rf"(?:tried|unable) to allocate {_AMOUNT}", re.IGNORECASE)
"""In the words of all three of torch's allocators, and of numpy's."""
_HAD = re.compile(rf"(?:of which |; ){_AMOUNT} (?:is )?free")
"""In those of CUDA's, today's and before 2.1."""
_MOST = re.compile(rf"max allowed: {_AMOUNT}")
"""In those of MPS's."""
_UNITS = {"bytes": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, here or in what the error was raised from."""
    return any(_ran_out(one) for one in _chain(error))


def _ran_out(one: BaseException) -> bool:
    by_type = isinstance(one, MemoryError) or (isinstance(one, OSError) and one.errno == errno.ENOMEM)
    return by_type or _NO_MEMORY.search(str(one)) is not None


def shortage(error: BaseException) -> str:
    """How many bytes were asked for, as the error says, and how many were to be had, as it or this machine says."""
    told = " ".join(str(one) for one in _chain(error) if _ran_out(one))
    asked, had, most = (pattern.search(told) for pattern in (_ASKED, _HAD, _MOST))
    if had is not None:
        rest = f"{_bytes(had)} were free on the GPU"
    elif most is not None:
        rest = f"{_bytes(most)} is the most the GPU allows"
    elif "CUDA" in told:
        rest = "the GPU did not say what was free"
    else:
        rest = f"{devices.size(devices.free_bytes())} are free"
    need = f"{_bytes(asked)} more were asked for" if asked is not None else "the error does not say how much was asked"
    return f"{need}, and {rest}"


def _bytes(found: re.Match[str]) -> str:
    unit = next(name for name in _UNITS if name.lower() == found[2].lower())
    return devices.size(int(float(found[1]) * _UNITS[unit]))


def machine_limit(error: BaseException) -> str | None:
    """Why this machine could not do it, in words; None where the error speaks of the model."""
    if out_of_memory(error):
        return f"not enough memory on this machine: {shortage(error)}"
    for one in _chain(error):
        if isinstance(one, ImportError):
            return f"a package is missing or broken here: {one_line(one)}"
        if isinstance(one, RuntimeError) and _NO_KERNEL.search(str(one)):
            return f"this machine's CPU has no such operation: {one_line(one)}"
    return None


@contextmanager
def within_means() -> Iterator[None]:
    """Turns an error that speaks of this machine into CannotRun; others pass."""
    try:
        yield
    except Exception as error:
        limit = machine_limit(error)
        if limit is None:
            raise
        raise CannotRun(limit) from error


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error's message without what changes from run to run: line breaks, memory addresses, folders."""
    text = " ".join(str(error).split()) or "no message"
    text = re.sub(r"0x[0-9a-f]+", "0x…", text)
    text = re.sub(r"(?<![\w/:.-])(?:/[\w.+-]+)+/([\w.+-]+)", r"\1", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__
