"""WIR19 in words: whether the token ids each model is given are its own tokenizer's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wirecheck.probe import Yielded
from wirecheck.probes.wire_use_case import Case

if TYPE_CHECKING:
    from wirecheck.wires.contract import SideName
    from wirecheck.wires.readings import Reading


def reads_its_own(case: Case) -> Iterator[Yielded]:
    """WIR19, for each model whose ids spell some of the batch's text with one tokenizer or the other."""
    from wirecheck.wires.readings import readings

    with case.steady.steady():
        found = readings(case.steady.wire, case.steady.models, case.samples)
    for side, reading in found.items():
        if reading.num_told:
            yield _of(case, side, reading)


def _of(case: Case, side: SideName, reading: Reading) -> Yielded:
    name, total = side.upper(), reading.num_told
    seen = case.ground.saw(reading.num_misread, 0, of=f": rows of ids given to {name} that spell text for the other")
    if reading.num_misread:
        claim = (
            f"{reading.num_misread} of {total} rows of token ids given to {name} spell the batch's text with the other "
            f"model's tokenizer, and not with {name}'s own."
        )
        own = case.ground.saw(reading.example, of=f": such a row with {name}'s own tokenizer")
        return case.bench.found("WIR19", claim, seen, own)
    return case.bench.ok(
        "WIR19", f"The token ids given to {name} spell the batch's text with {name}'s tokenizer.", seen
    )
