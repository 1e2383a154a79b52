"""`python -m wirecheck.cli` in a process of its own, forked from one that has imported what every run imports.

Where a file of tests runs the tool a hundred times, most of each run was importing torch. What reads the environment
when it is imported (wirecheck, transformers, huggingface_hub, typer, rich) is still imported by each run itself.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

LIBRARIES = (
    *("torch", "torch.distributed.tensor", "torch.fx.experimental.symbolic_shapes", "torch._dynamo"),
    *("safetensors.torch", "numpy", "pydantic", "jinja2", "junitparser", "markdown_it", "httpx2", "httpcore2"),
    *("psutil", "regex", "yaml"),
)
STREAMS = ("stdout", "stderr")
LONGEST_S = 120

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(list(LIBRARIES))


def begin_anew(*more: str) -> None:
    """The next run is forked from a new process, in this one's environment, which has imported these, too."""
    forkserver._forkserver._stop()
    _FORKS.set_forkserver_preload([*LIBRARIES, *more])


class Running(NamedTuple):
    """A run that has been started."""

    words: tuple[str, ...]
    process: ForkServerProcess
    folder: TemporaryDirectory[str]
    """Of what it prints."""

    def kill(self) -> None:
        """SIGKILL to it and to all that it has started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has ended, or it has not come to lead its own group
            self.process.kill()

    def ended(self) -> CompletedProcess[str]:
        """Its exit code and what it printed, once it has ended."""
        self.process.join(LONGEST_S)
        late = self.process.exitcode is None
        if late:
            self.kill()
            self.process.join()
        with self.folder as name:
            out, err = (Path(name, stream).read_text(encoding="utf-8") for stream in STREAMS)
        assert not late, f"wirecheck {' '.join(self.words)}: still running after {LONGEST_S} s: {out}{err}"
        return CompletedProcess(self.words, self.process.exitcode, out, err)


def started(
    words: tuple[str, ...],
    cwd: Path,
    environment: Mapping[str, str],
    most_bytes: int | None = None,
    *,
    disk: Mapping[str, Any] | None = None,
) -> Running:
    """One run; `most_bytes` is the longest file that the system lets it write, `disk` how its disk fails."""
    folder = TemporaryDirectory()
    for stream in STREAMS:
        Path(folder.name, stream).touch()
    process = _FORKS.Process(target=_run, args=(words, cwd, dict(environment), Path(folder.name), (most_bytes, disk)))
    process.start()
    return Running(words, process, folder)


def wirecheck(
    words: tuple[str, ...],
    cwd: Path,
    environment: Mapping[str, str],
    most_bytes: int | None = None,
    *,
    disk: Mapping[str, Any] | None = None,
) -> CompletedProcess[str]:
    """As `started`, ended."""
    return started(words, cwd, environment, most_bytes, disk=disk).ended()


def _run(
    words: tuple[str, ...],
    cwd: Path,
    environment: dict[str, str],
    folder: Path,
    bounds: tuple[int | None, Mapping[str, Any] | None],
) -> None:
    """In the fork: as a fresh interpreter would begin and end."""
    imported = {name.partition(".")[0] for name in sys.modules}
    assert not imported & {"wirecheck", "transformers", "huggingface_hub", "typer", "rich"}
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(STREAMS, start=1):
        os.dup2(os.open(folder / stream, os.O_WRONLY | os.O_APPEND), number)
    most_bytes, disk = bounds
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    if disk is not None:
        from tests.faultline import Disk

        Disk(**disk).install()
    tempfile.tempdir = None  # found by TMPDIR, anew
    sys.argv = ["wirecheck", *words]
    sys.path.insert(0, str(cwd))
    try:
        runpy.run_module("wirecheck.cli", run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its children without
