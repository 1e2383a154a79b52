"""WIR08, WIR09, WIR11, WIR16 in words: what other rows do to a row, and what its source does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wirecheck.errors import CannotRun
from wirecheck.probe import Yielded
from wirecheck.probes.wire_use_case import Case, letters
from wirecheck.probes.wiring import figure
from wirecheck.schema import Evidence, Finding, Severity

if TYPE_CHECKING:
    from wirecheck.wires.contract import SideName
    from wirecheck.wires.invariance import Joined, Reached, ReadTo, Shares

LEAST_DISTANCE = 1e-4
"""Sound encoders part two sentences by 0.1 and more."""
_STATISTICS = "Take every statistic (mean, RMS, calibration) of one row at a time, never over the batch."
_LONGER = "Raise the length the encoder reads above {} bytes, or cut the source at its beginning."


# --- WIR08, WIR09 ------------------------------------------------------------------------------------------------


def rows(case: Case) -> Iterator[Yielded]:
    """WIR08 and WIR09."""
    from wirecheck.wires.invariance import in_order, joined, shares

    case.must_repeat("whether padding and batching change the loss")
    moved: list[Joined] = []
    mixed: dict[SideName, Shares | None] = {}
    for one in case.models:
        alone, among = case.alone_said(one.side), case.said(one.side)
        if alone is None or among is None:
            raise CannotRun(
                f"whether padding and batching change the loss: {one.side.upper()} is not handed row by row"
            )
        among = in_order(alone, among)
        found = [joined(*both, one.side, row) for row, both in enumerate(zip(alone, among, strict=True))]
        moved.append(max(found, key=lambda each: each.difference / each.allowed))
        is_same_length = all(each.alone == each.batched for each in found)
        mixed[one.side] = shares(alone, among) if is_same_length else None
    changed = [each for each in moved if not each.is_same]
    if not changed:
        yield _unpadded(case, moved)
        yield from (_mean(case, side, share) for side, share in mixed.items())
        return
    statistics = []
    for each in changed:
        padded, by_company = _padded(case, each)
        yield padded
        statistics += [by_company] if by_company else []
    yield from statistics
    for side, share in mixed.items():
        if side not in {each.side for each in changed}:
            yield _mean(case, side, share)
    if not statistics:
        raise CannotRun("how the rows' losses make the batch's: padding changes them first (WIR08)")


def _unpadded(case: Case, moved: list[Joined]) -> Finding:
    evidence = (
        _within(case, each, of=f": largest difference of a log-probability of {each.side.upper()}") for each in moved
    )
    who = letters([each.side for each in moved])
    claim = f"What {who} say{'s' if len(moved) == 1 else ''} of a row is the same alone as among longer rows."
    return case.bench.ok("WIR08", claim, *evidence)


def _padded(case: Case, each: Joined) -> tuple[Finding, Finding | None]:
    """WIR08 of one model; and WIR09 where a row of equal lengths does the same as a longer one."""
    from wirecheck.wires.invariance import Beside, beside

    name = each.side.upper()
    seen = (
        _within(case, each, of=f": row {each.row + 1}, alone and in the batch, largest difference of {name}")
        if each.alone == each.batched
        else case.ground.saw(
            each.batched,
            each.alone,
            of=f": positions of row {each.row + 1} that the loss of {name} rests on in the batch, and alone",
        )
    )
    found = {kind: one for kind, one in beside(case.steady, case.samples, each.side).items() if one is not None}
    evidence = [seen] + [
        case.ground.saw(_difference(one), f"at most {one.allowed:.2g}", of=f": {name}, beside {kind}")
        for kind, one in found.items()
    ]
    if Beside.EQUAL in found and not found[Beside.EQUAL].is_same:
        claim = f"What {name} says of a row changes with the other row of its batch, though it be as long."
        mixed = case.bench.found("WIR09", claim, *evidence, remedy=_STATISTICS)
        claim = f"Whether padding changes {name}'s loss cannot be told: any other row in the batch does."
        return case.bench.found("WIR08", claim, *evidence, severity=Severity.NOTE), mixed
    if each.alone != each.batched:
        claim = f"In a batch with longer rows the loss of {name} rests on other positions of a row than alone."
        return case.bench.found("WIR08", claim, *evidence), None
    kinds = [kind for kind, one in found.items() if not one.is_same]
    claim = f"What {name} says of a row changes beside {' and beside '.join(kinds) if kinds else 'longer rows'}."
    return case.bench.found("WIR08", claim, *evidence), None


def _within(case: Case, each: Joined, *, of: str) -> Evidence:
    from wirecheck.wires.steady import reordered

    steps = f"{reordered(each.dtype)} rounding steps of {str(each.dtype).removeprefix('torch.')}"
    expected = f"at most {each.allowed:.2g} ({steps} at the largest log-probability)"
    return case.ground.saw(figure(each.difference), expected, of=of)


def _difference(one: Joined) -> float | str:
    return figure(one.difference) if one.alone == one.batched else f"{one.batched} positions in place of {one.alone}"


def _mean(case: Case, side: SideName, found: Shares | None) -> Finding:
    from wirecheck.wires.invariance import Mean

    name = side.upper()
    if found is None:
        seen = case.ground.saw("no multiple", "a multiple", of=f": gradient of a row of {name} in the batch, and alone")
        claim = (
            f"The loss of a batch is no sum over its rows in {name}: their gradients are not those of the rows alone."
        )
        return case.bench.found("WIR09", claim, seen, remedy=_STATISTICS)
    counted, counts = found.share_CB[0].tolist(), found.count_CB[0].tolist()
    by_token, by_row = ([n / sum(counts) for n in counts], [1 / len(counts)] * len(counts))
    expected = f"{_list(by_token)} (every token alike), {_list(by_row)} (every row alike) or 1 each (the sum)"
    of = f": what each row's loss counts for in the batch's, {name}, to {found.allowed:.2g} of it"
    seen = case.ground.saw(_list(counted), expected, of=of)
    if found.mean() is Mean.NEITHER:
        claim = f"The loss of a batch is neither a mean nor the sum of its rows' losses in {name}."
        return case.bench.found("WIR09", claim, seen)
    how = "is the sum of its rows' losses" if found.mean() is Mean.SUM else f"counts {found.mean()}"
    return case.bench.ok("WIR09", f"The loss of a batch {how} in {name}.", seen)


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


# --- WIR11, WIR16 ------------------------------------------------------------------------------------------------


def source(case: Case) -> Iterator[Yielded]:
    """WIR11 and WIR16."""
    from wirecheck.wires.contract import Batch
    from wirecheck.wires.invariance import LENGTHS, reached, read_to
    from wirecheck.wires.samples import TWO_SOURCES

    case.must_repeat("whether the source reaches the models")
    answer = case.samples.answers[0]
    batch = Batch(TWO_SOURCES, (answer, answer))
    found = reached(case.steady, batch)
    if not found:
        raise CannotRun("whether the source reaches the models: their rows cannot be told apart")
    read = _reads_source(case, found)
    yield read
    if read.severity is Severity.BLOCK:
        raise CannotRun("how long a source may be: none reaches the models (WIR11)")
    wanted = case.bench.policy.source_bytes
    lengths = sorted({*LENGTHS, *((wanted,) if wanted else ())})
    longest = read_to(case.steady, answer, [n for n in lengths if n >= min(LENGTHS)], found)
    if longest is None:
        raise CannotRun("how long a source may be: the rows of a batch cannot be told apart")
    yield _truncated(case, longest)


def _reads_source(case: Case, found: tuple[Reached, ...]) -> Finding:
    evidence = [
        case.ground.saw(
            figure(one.distance),
            f"at least {LEAST_DISTANCE:g}",
            of=f": two sources of equal length, largest difference of {_what(one)} over its RMS",
        )
        for one in found
    ]
    same = [one for one in found if one.distance < LEAST_DISTANCE]
    if same:
        claim = f"Two different sources give the same {' and the same '.join(_what(one) for one in same)}."
        return case.bench.found("WIR11", claim, *evidence)
    claim = (
        f"Two different sources of equal length give different {' and different '.join(_what(one) for one in found)}."
    )
    return case.bench.ok("WIR11", claim, *evidence)


def _what(one: Reached) -> str:
    return f"soft tokens of {one.side.upper()}" if one.is_soft else f"log-probabilities of {one.side.upper()}'s answer"


def _truncated(case: Case, longest: ReadTo) -> Finding:
    wanted, read = case.bench.policy.source_bytes, max(longest.read, default=0)
    seen = case.ground.saw(
        read or "none of those tried",
        wanted,
        of=": longest source, in bytes of UTF-8, whose last sentence changes what the models are handed",
    )
    ends = "" if not longest.why_no_longer else f"; {longest.why_no_longer}"
    if longest.lost is None and (not wanted or wanted <= read):
        claim = f"The end of a source of {read} bytes, the longest tried, reaches the models{ends}."
        return case.bench.ok("WIR16", claim, seen)
    lost = f"The end of a source of {longest.lost} bytes does not reach the models"
    if longest.lost is None:
        lost = f"Whether the end of a source of {wanted} bytes reaches the models is not shown"
    claim = f"{lost}; that of {read} bytes does{ends}." if read else f"{lost}{ends}."
    if wanted and (longest.lost is None or longest.lost <= wanted):
        remedy = _LONGER.format(wanted)
        return case.bench.found("WIR16", claim, seen, severity=Severity.WARN, remedy=remedy)
    return case.bench.found("WIR16", claim, seen, severity=Severity.NOTE)
