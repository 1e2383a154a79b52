"""The whole corpus, run in a few processes, and counted."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.planted.bases import make_bases
from tests.planted.cases import Case, Plant
from tests.planted.faults_code import CODE
from tests.planted.faults_config import CONFIG
from tests.planted.faults_embeds import EMBEDS
from tests.planted.faults_pair import PAIR
from tests.planted.faults_template import TEMPLATE
from tests.planted.faults_tokenizer import TOKENIZER
from tests.planted.faults_values import VALUES
from tests.planted.faults_weights import WEIGHTS
from tests.planted.faults_wire import WIRE
from tests.planted.harmless import HARMLESS
from tests.planted.trial import Bench, Result
from wirecheck.schema import Level

PLANTS: tuple[Plant, ...] = (*CONFIG, *WEIGHTS, *VALUES, *TOKENIZER, *TEMPLATE, *EMBEDS, *WIRE, *PAIR, *CODE)
CASES: tuple[Case, ...] = (*PLANTS, *HARMLESS)
FAMILIES = ("CFG", "WGT", "TOK", "TPL", "EMB", "WIR", "PAR", "MEM", "HUB", "ENV")

_worker: tuple[Bench, Sequence[Case]] | None = None
"""Of a worker, forked with the libraries and the cases at hand: a case holds functions, which do not travel."""


@dataclass(frozen=True)
class Tally:
    """One line of the table of faults."""

    planted: int
    found: int
    missed: int
    misnamed: int

    @property
    def recall(self) -> float:
        """Found under the code expected, of all that were planted."""
        return self.found / self.planted if self.planted else 1.0


Row = tuple[Case, Result]


def tally(rows: Sequence[Row]) -> Tally:
    """Counts of planted faults; harmless changes are left out."""
    kinds = [result.kind for case, result in rows if isinstance(case, Plant)]
    return Tally(len(kinds), *(kinds.count(kind) for kind in ("found", "missed", "misnamed")))


def run(cases: Sequence[Case], processes: int) -> list[Row]:
    """Every case and what came of it, in the order given. The costly ones are begun first."""
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    order = sorted(range(len(cases)), key=lambda n: -_cost(cases[n]))
    with tempfile.TemporaryDirectory(prefix="wirecheck-planted-") as name:
        root = Path(name)
        with _quiet():
            _warm()
            bases = make_bases(root / "bases")
        forks = multiprocessing.get_context("fork")
        with forks.Pool(processes, _begin, (bases, root, cases)) as pool:
            results = dict(pool.imap_unordered(_one, order, chunksize=1))
    return [(case, results[n]) for n, case in enumerate(cases)]


def _cost(case: Case) -> int:
    """Roughly, in tenths of a second."""
    if isinstance(case, Plant) and case.command is not None:
        return 15
    return 30 if case.beside is not None else {Level.EXECUTED: 8, Level.SIMULATED: 6}.get(case.depth, 2)


def _warm() -> None:
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()


def _begin(bases: dict[str, Path], root: Path, cases: Sequence[Case]) -> None:
    global _worker  # noqa: PLW0603 - one for the life of a worker
    _worker = Bench(bases, root / str(os.getpid())), cases


def _one(number: int) -> tuple[int, Result]:
    assert _worker is not None
    bench, cases = _worker
    with _quiet():
        result = bench.run(cases[number])
    return number, result


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Progress bars and warnings of the libraries say nothing to whoever reads the table."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield
