"""`wirecheck matrix --executor slurm` and `--attach`: the run's folder, the cluster's options, and how it stands."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wirecheck.cli_output import read_record, to_json, write
from wirecheck.errors import UsageError
from wirecheck.fork_pool import Answered, Died
from wirecheck.matrix_asked import Asked
from wirecheck.matrix_work import Work
from wirecheck.slurm_pool import SlurmPool, Standing
from wirecheck.slurm_records import SlurmOptions

ASKED = "asked.json"
RUNS = Path("wirecheck-runs")
SLURM_OPTIONS = {
    "slurm_partition": "partition",
    "slurm_minutes": "minutes",
    "slurm_cpus": "cpus",
    "slurm_gpus": "gpus",
    "slurm_memory": "memory",
    "slurm_array": "array",
    "slurm_chunk": "chunk",
}
"""Option of the command -> field of SlurmOptions."""
_SHARE = 0.8
"""Of an element's time that one piece of work may take: else no try could ever end it."""
_BEYOND = 2**46
"""Bytes of address space that no GPU's mapping reaches."""


@dataclass
class OnSlurm:
    """Elements of job arrays."""

    pool: SlurmPool
    memory_bytes: int
    models_at_once: int = 10_000
    """All in one array: the next one would wait for the slowest of the last."""

    is_elsewhere: bool = True

    @property
    def width(self) -> int:
        """The elements of the array, times what each does at once."""
        options = self.pool.options
        return options.array * (1 if options.gpus else options.cpus)

    def run(self, names: Sequence[str], work: Work, *, limit_s: float) -> Iterator[Answered | Died]:
        """As Executor says it."""
        most_s = self.pool.options.minutes * 60 * _SHARE
        memory_bytes = _BEYOND if self.pool.options.gpus else self.memory_bytes
        return self.pool.run(names, work, limit_s=min(limit_s, most_s), memory_bytes=memory_bytes)


def slurm_options(options: Mapping[str, Any], begun: Mapping[str, Any] | None = None) -> SlurmOptions | None:
    """What is asked of the cluster, over what a run was `begun` with; None: local processes. Raises UsageError."""
    given = {name: options[name] for name in SLURM_OPTIONS if options[name] is not None}
    if begun is None and options["executor"] != "slurm":
        if options["executor"] != "local":
            raise UsageError(f"--executor {options['executor']}: there is none", next_step="use local or slurm")
        if given or options["slurm_option"] or options["run"]:
            name = next(iter(given), "run" if options["run"] else "slurm_option").replace("_", "-")
            raise UsageError(f"--{name} is read by the executor slurm", next_step="add --executor slurm")
        return None
    fields = dict(begun or {}) | {SLURM_OPTIONS[name]: value for name, value in given.items()}
    extra = dict(fields.pop("extra", {}))
    for text in options["slurm_option"] or []:
        key, equals, value = text.lstrip("-").partition("=")
        if not equals or not key or not text.isprintable():
            raise UsageError(f"--slurm-option {text}: not KEY=VALUE", next_step="give for instance account=lab")
        extra[key] = value
    try:
        return SlurmOptions(**fields, extra=extra)
    except (TypeError, AssertionError):
        raise UsageError(
            "what the run asks of Slurm is not what this version asks", next_step="begin another run"
        ) from None


def begin(folder: Path | None, asked: Asked) -> Path:
    """A folder of its own for the run, with what it is asked. Raises UsageError where another run is in it."""
    place = folder or RUNS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    if (place / ASKED).exists():
        raise UsageError(f"{place}: a run was begun there", next_step=f"wirecheck matrix --attach {place}")
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--run {place}: {error.strerror}", next_step="choose another folder") from None
    _check_own(place)
    write(place / ASKED, to_json(asked))
    return place


def _check_own(folder: Path) -> None:
    """Raise UsageError where someone else may write: the folder holds code that is run, and answers that are kept."""
    told = folder.stat()
    if told.st_uid != os.getuid() or told.st_mode & 0o022:
        raise UsageError(
            f"{folder}: others may write there, and what lies there is run",
            next_step=f"use a folder of your own: chmod 700 {folder}",
        )


def attached(folder: Path) -> Asked:
    """What the run in a folder was asked; from then on this process is in the folder it was asked in.

    Hence `folder` is to be an absolute path. Raises UsageError.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no run of a matrix", next_step="name the folder that --run made")
    _check_own(folder)
    asked = read_record(folder / ASKED, Asked, "run of a matrix", next_step="name the folder that --run made")
    try:
        os.chdir(asked.folder)
    except OSError as error:
        raise UsageError(
            f"{asked.folder}, where the run was begun, cannot be entered: {error.strerror}",
            next_step="attach on a machine that has that folder",
        ) from None
    return asked


def in_words(standing: Standing) -> str:
    """How a run on a cluster is."""
    waits = f" ({standing.reason})" if standing.reason else ""
    return f"slurm: {standing.open} open, {standing.running} elements running, {standing.pending} pending{waits}"


def cancel(folder: Path) -> None:
    """Take what is left of the jobs of a run, by its absolute path, out of the queue; its answers stay.

    Raises UsageError, CouldNotCheck.
    """
    asked = attached(folder)
    SlurmPool(folder, slurm_options(_NOTHING, asked.slurm or {})).cancel()


_NOTHING: Mapping[str, Any] = dict.fromkeys((*SLURM_OPTIONS, "slurm_option"))


def on_slurm(folder: Path, options: SlurmOptions, memory_bytes: int, told: Callable[[str], None]) -> OnSlurm:
    """The executor of a run. Raises UsageError."""
    last = ""

    def heard(standing: Standing) -> None:
        nonlocal last
        words = in_words(standing)
        if words != last:
            last = words
            told(words)

    return OnSlurm(SlurmPool(folder, options, told=heard), memory_bytes)
