"""Every causal LM class of the installed transformers, asked by the simulated probes, on a twin of its default config.

One forked process per type, several at a time; finished rows lie on a shelf, so that nothing is run twice and an
interruption loses nothing. Prints nothing; to import this module, or to answer from the shelf, loads no torch.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from wirecheck.architecture_records import Architecture, ArchitectureTable, Trouble
from wirecheck.architecture_study import MAX_ROWS, answer, probes
from wirecheck.cache_folder import cache_home
from wirecheck.codes import CODES
from wirecheck.errors import UsageError
from wirecheck.fork_pool import Answered, Died, Limits, in_forks
from wirecheck.model_types import causal_model_types
from wirecheck.runner import PACKAGES, environment

LIMIT_S = 180.0
"""Seconds one type may take; the slowest takes a small part of it."""
OPTIONAL = (
    *("causal-conv1d", "einops", "flash-attn", "flash-linear-attention", "kernels", "mamba-ssm", "numpy", "pillow"),
    *("scipy", "timm", "torchvision", "triton"),
)
"""Packages that change which code a class runs, where they are installed."""
SOURCES, NOT_OF_A_ROW = ("*.py", "codes/*.py", "probes/*.py"), ("cli*.py", "doctor*.py", "demo.py", "verdict.py")
"""What of wirecheck a row may depend on."""
_PACKAGE = Path(__file__).parent


class Progress(Protocol):
    """Told of every row as it comes."""

    def row(self, row: Architecture, *, shelved: bool) -> None:
        """A row is there; `shelved` where an earlier run made it."""


def chosen_types(asked: Sequence[str]) -> tuple[str, ...]:
    """Those types in alphabetical order; all there are where none is asked. Raises UsageError on an unknown one."""
    known = causal_model_types()
    unknown = sorted(set(asked) - known)
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(known), n=1)
        installed = dict(environment(("transformers",)).packages).get("transformers", "(unknown)")
        raise UsageError(
            f"{unknown[0]}: transformers {installed} has no causal LM of this type",
            next_step=f"wirecheck architectures {near[0]}" if near else "name a model_type, as config.json has it",
        )
    return tuple(sorted(set(asked) or known))


def survey(
    types: Sequence[str], progress: Progress, *, seed: int, jobs: int, fresh: bool = False, command: str
) -> ArchitectureTable:
    """A row for each of those types. Ctrl-C passes; the rows made before it stay on the shelf."""
    shelf = Shelf.of_this_machine(seed)
    rows = {} if fresh else {kind: row for kind in types if (row := shelf.take(kind)) is not None}
    for row in rows.values():
        progress.row(row, shelved=True)
    missing = [kind for kind in types if kind not in rows]
    for row in make_rows(missing, seed=seed, jobs=jobs) if missing else ():
        shelf.put(row)
        rows[row.model_type] = row
        progress.row(row, shelved=False)
    return tabled(rows.values(), seed=seed, command=command)


def tabled(rows: Iterable[Architecture], *, seed: int, command: str) -> ArchitectureTable:
    """The table of those rows, made with the versions installed now."""
    return ArchitectureTable(
        command=command,
        seed=seed,
        max_rows=MAX_ROWS,
        codes=tuple((code, CODES[code].name) for code in sorted({code for one in probes() for code in one.codes})),
        environment=environment((*PACKAGES, *OPTIONAL)),
        rows=tuple(sorted(rows, key=lambda row: row.model_type)),
    )


def make_rows(types: Sequence[str], *, seed: int, jobs: int, limit_s: float = LIMIT_S) -> Iterator[Architecture]:
    """A row per type, in the order they end."""
    from wirecheck import zoo_defaults

    zoo_defaults.warm()
    for ended in in_forks(types, partial(answer, seed=seed), jobs=jobs, limits=Limits(seconds=limit_s)):
        yield row_of(ended)


def row_of(ended: Answered | Died) -> Architecture:
    """The row a child wrote, or one that says why it wrote none."""
    match ended:
        case Answered(text=text, seconds=seconds):
            return Architecture.model_validate_json(text).model_copy(update={"seconds": seconds})
        case Died(name=name, why=why, seconds=seconds):
            return Architecture(model_type=name, trouble=Trouble(cause="ended", words=why), seconds=seconds)


# --- rows made before --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shelf:
    """The rows that earlier runs made of the same code, versions and seed: one file per type."""

    folder: Path

    @classmethod
    def of_this_machine(cls, seed: int) -> Shelf:
        """The folder for the code and the versions that are installed now."""
        made_with = environment((*PACKAGES, *OPTIONAL)).model_dump_json()
        told = hashlib.sha256(f"{made_with} seed {seed} rows {MAX_ROWS}".encode())
        for pattern in SOURCES:
            for path in sorted(_PACKAGE.glob(pattern)):
                if not any(path.match(one) for one in NOT_OF_A_ROW):
                    told.update(path.read_bytes())
        return cls(cache_home() / "architectures" / told.hexdigest()[:32])

    def take(self, model_type: str) -> Architecture | None:
        """The row of that type; None where there is none that can be read."""
        try:
            return Architecture.model_validate_json((self.folder / f"{model_type}.json").read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError):
            return None

    def put(self, row: Architecture) -> None:
        """Keeps a row, but for one that another run may well make whole; where the disk refuses, it is not kept."""
        if row.trouble is not None and row.trouble.cause == "ended":
            return
        aside = self.folder / f".{row.model_type}.{os.getpid()}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            aside.write_text(row.model_dump_json(), encoding="utf-8")
            aside.replace(self.folder / f"{row.model_type}.json")
        except OSError:
            with suppress(OSError):
                aside.unlink()
