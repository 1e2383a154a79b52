"""`python -m wirecheck.cli` in a process of its own, forked from one that has imported what every run imports.

Where a test file runs the tool a hundred times, most of each run was the import of torch. What reads the environment when
it is imported (wirecheck, transformers, huggingface_hub, typer, rich) is still imported by each run itself.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import runpy
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

LIBRARIES = (
    *(
        "torch",
        "torch.distributed.tensor",
        "torch.fx.experimental.symbolic_shapes",
        "torch._dynamo",
        "safetensors.torch",
    ),
    *(
        "numpy",
        "pydantic",
        "jinja2",
        "junitparser",
        "markdown_it",
        "httpx2",
        "httpcore2",
        "h11",
        "psutil",
        "regex",
        "yaml",
    ),
)
LONGEST_S = 120

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(list(LIBRARIES))


def wirecheck(
    words: tuple[str, ...], cwd: Path, environment: Mapping[str, str], most_bytes: int | None = None
) -> CompletedProcess[str]:
    """One run, ended; `most_bytes` is the longest file that the system lets it write."""
    with tempfile.TemporaryDirectory() as name:
        files = tuple(Path(name, stream) for stream in ("stdout", "stderr"))
        for file in files:
            file.touch()
        process = _FORKS.Process(target=_run, args=(words, cwd, dict(environment), files, most_bytes))
        process.start()
        process.join(LONGEST_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"wirecheck {' '.join(words)}: still running after {LONGEST_S} s")
        out, err = (file.read_text(encoding="utf-8") for file in files)
        return CompletedProcess(words, process.exitcode, out, err)


def _run(
    words: tuple[str, ...], cwd: Path, environment: dict[str, str], files: tuple[Path, Path], most_bytes: int | None
) -> None:
    """In the fork: as a fresh interpreter would begin and end."""
    imported = {name.partition(".")[0] for name in sys.modules}
    assert not imported & {"wirecheck", "transformers", "huggingface_hub", "typer", "rich"}
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), number)
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    sys.argv = ["wirecheck", *words]
    sys.path.insert(0, str(cwd))
    try:
        runpy.run_module("wirecheck.cli", run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its children without
