"""Does a wire whose step runs also do what it is for: learn, read its source, stand padding, come back from its file.

Black-box checks of any wire of the contract, on the twins in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wirecheck.errors import CannotRun
from wirecheck.probe import PairBench, Probe, Yielded
from wirecheck.probes import (
    wire_use_prefix,
    wire_use_reading,
    wire_use_rows,
    wire_use_schedule,
    wire_use_state,
    wire_use_words,
    wiring,
)
from wirecheck.probes.wire_use_case import Case, Check
from wirecheck.probes.wiring import Ground
from wirecheck.schema import Finding, Level

if TYPE_CHECKING:
    from wirecheck.wires.contract import WiredModel
    from wirecheck.wires.failure import StepFailed
    from wirecheck.wires.steady import SteadyWire

    Models = tuple[WiredModel, WiredModel]


def _run(bench: PairBench) -> Iterator[Yielded]:
    from wirecheck.wires.failure import StepFailed

    ground = wiring.on_twins(bench)
    models = wiring.wired(bench, ground)
    others = wiring.copies(models)  # of the models as no wire has touched them
    with wiring.lent(models), wiring.lent(others):
        try:
            wire = _make(bench, models, bench.seed)
        except StepFailed as failure:
            yield _fails(bench, failure, ground)
            return
        except MemoryError as error:
            raise CannotRun(str(error)) from error
        yield from _checked(Case(bench, ground, wire, make_other=lambda: _make(bench, others, bench.seed + 1)))


CHECKS: tuple[Check, ...] = (
    wire_use_reading.reads_its_own,
    wire_use_prefix.shows_its_own,
    wire_use_rows.source,
    wire_use_rows.rows,
    wire_use_words.anchors,
    wire_use_words.generates,
    wire_use_state.learns_and_keeps,  # late: the wire is another one afterwards
    wire_use_schedule.schedules,  # of the trained wire: its gates are open
)


def _checked(case: Case) -> Iterator[Yielded]:
    """Every check in its turn. CannotRun, at the end, with what was not told."""
    from wirecheck.wires.failure import StepFailed

    untold: list[str] = []
    failures: set[str] = set()
    for check in CHECKS:
        try:
            yield from check(case)
        except StepFailed as failure:
            if failure.message not in failures:
                yield _fails(case.bench, failure, case.ground)
            failures.add(failure.message)
        except CannotRun as missing:
            untold.append(missing.reason)
        except MemoryError as error:
            raise CannotRun(str(error)) from error
    if untold:
        raise CannotRun("; ".join(untold))


def _make(bench: PairBench, models: Models, seed: int) -> SteadyWire:
    """A wire in eval mode; its calls draw from the bench's seed whatever its own."""
    from wirecheck.wires.steady import SteadyWire
    from wirecheck.wires.watch import trained_module

    wire = wiring.make(bench, models, seed=seed)
    trained_module(wire).eval()
    return SteadyWire(wire, models, bench.seed)


def _fails(bench: PairBench, failure: StepFailed, ground: Ground) -> Finding:
    claim = f"The wire fails in its part `{failure.part}` when it is used on the {ground.models}."
    return bench.found("WIR01", claim, ground.saw(failure.message, "no error", of=f": {failure.part}"))


WIRE_USE = Probe(
    name="wire-use",
    question="Does the wire learn, read its source, stand padding and batching, come back from its file, and generate?",
    scope="pair",
    level=Level.SIMULATED,
    codes=("WIR01", "WIR02", "WIR05", "WIR08", "WIR09", "WIR10", "WIR11", "WIR12", "WIR14", "WIR15", "WIR16", "WIR19"),
    needs="torch",
    requires=("wire-twin",),
    moot_after=("CFG08", "CFG10", "TOK01", "EMB01", "WIR01", "WIR03"),
    run=_run,
)
