"""WIR13: whether the sizes of the wire asked for fit both models, before anything is made. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from wirecheck.errors import CannotRun
from wirecheck.probe import PairBench, Probe, Yielded
from wirecheck.schema import Evidence, Fact, Level, Severity, strongest
from wirecheck.wires.sizes import Sizes, misfit


def _run(bench: PairBench) -> Iterator[Yielded]:
    facts = {side: (_fact(bench, side, "hidden_size"), _fact(bench, side, "num_layers")) for side in ("a", "b")}
    seen = tuple(fact.evidence() for pair in facts.values() for fact in pair)
    a, b = (Sizes(*(int(str(fact.value)) for fact in pair)) for pair in facts.values())
    if bench.wire.is_own:
        claim = (
            f"What sizes {bench.wire.name} needs is not known before it is made: it is told widths {a.hidden_size} and "
            f"{b.hidden_size} and depths {a.num_layers} and {b.num_layers}."
        )
        yield bench.found("WIR13", claim, *seen, severity=Severity.NOTE)
        return
    faults = misfit(bench.wire, a, b)
    asked = f"wire {bench.wire.name}, as asked for"
    for fault in faults:
        told = Evidence(level=Level.INSPECTED, source=asked, observed=fault.observed, expected=fault.expected)
        yield bench.found("WIR13", fault.claim, told, *seen, remedy=fault.remedy)
    if not faults:
        claim = f"Every size of the wire {bench.wire.name} fits both models."
        yield bench.ok("WIR13", claim, *seen)


def _fact(bench: PairBench, side: Literal["a", "b"], key: str) -> Fact:
    fact = strongest(bench.facts, side, key)
    if fact is None or not isinstance(fact.value, int):
        raise CannotRun(f"nothing establishes {key} of model {side}")
    return fact


WIRE_SIZES = Probe(
    name="wire-sizes",
    question="Do the wire's own sizes fit both models: layers read, widths that heads must divide?",
    scope="pair",
    level=Level.INSPECTED,
    codes=("WIR13",),
    needs="files",
    requires=("config",),
    moot_after=("CFG01", "CFG02", "CFG05"),
    run=_run,
)
