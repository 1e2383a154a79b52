"""How the tokens a loss asks for lie to the tokens the model was handed: shifted once, as they must, or otherwise.

    B rows   S positions   N tokens asked for

The token asked for at position s is to be the one handed at s + 1. Neither labels nor the wire's words are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

import torch
from torch import Tensor

from wirecheck.wires.contract import SideName, WiredModel
from wirecheck.wires.watch import Call, Observation, handed_ids

MOST_ENDS = 2
"""Stop tokens one answer may end with, as `<|eot_id|>` and `<|end_of_text|>`; a longer run is padding."""


class Shift(StrEnum):
    """Which of the tokens handed is the one asked for."""

    ONCE = "the token handed next"
    TWICE = "the token after the next"
    UNSHIFTED = "the token handed at the same position"
    PADDING = "padding"
    SOFT = "a token where a soft one is handed next"
    OTHER = "another token than the one handed next"
    PAST = "a token past the end of what is handed"
    """Nothing handed can contradict: a loss on the first tokens alone, each from a forward of its own."""
    UNTOLD = "cannot be told"


@dataclass(frozen=True)
class Sighting:
    """One token asked for, beside the tokens handed."""

    row: int
    position: int
    token: int
    near: tuple[int | None, int | None, int | None]
    """Ids handed at the position, next, and after the next: -1 a soft token, None past the end."""
    fits: tuple[Shift, ...]
    """Every shift by which this token is the one asked for: several where a text repeats itself."""
    is_padding: bool
    """The position or the next one is masked; or the token belongs to a run of stop tokens too long to be an end."""

    @property
    def is_past(self) -> bool:
        """Nothing is handed next."""
        return self.near[1] is None


@dataclass(frozen=True, eq=False)
class Handed:
    """The tokens one forward was handed, and each token asked of it as the table tells it."""

    ids_BS: Tensor
    """int64 on the CPU: -1 a soft token."""
    real_BS: Tensor
    """bool: what attention does not mask."""
    same: dict[int, int]
    """Token asked -> the first token with an equal row: two reserved tokens with one vector are one."""


def read_handed(one: WiredModel, calls: Sequence[Call]) -> tuple[Handed, ...]:
    """The tokens handed in each of the calls, which are one model's. One pass over the table for all of them."""
    distinct = {id(call.embeds_BSD): call.embeds_BSD for call in calls}
    tokens = sorted({t for call in calls for asked in call.asked.values() for t in asked.token_N.tolist() if t >= 0})
    vectors = [embeds_BSD.flatten(0, 1) for embeds_BSD in distinct.values()]
    if tokens:
        with torch.no_grad():
            rows_ND = one.model.get_input_embeddings()(torch.tensor(tokens, device=vectors[0].device))
        vectors.append(rows_ND.to(vectors[0].dtype))
    ids_N = handed_ids(one, torch.cat(vectors)[None])[0].cpu()
    parts = torch.split(ids_N, [len(part) for part in vectors])
    by_embeds = dict(zip(distinct, parts, strict=False))
    same = dict(zip(tokens, parts[-1].tolist(), strict=True)) if tokens else {}
    return tuple(_handed(call, by_embeds[id(call.embeds_BSD)], same) for call in calls)


def _handed(call: Call, ids_N: Tensor, same: dict[int, int]) -> Handed:
    B, S, _ = call.embeds_BSD.shape
    mask = call.mask_BS
    real_BS = torch.ones(B, S, dtype=torch.bool)
    if mask is not None and mask.shape in [(B, S + past) for past in range(mask.shape[-1])]:
        real_BS = mask[:, -S:].bool().cpu()  # after a cached part, the mask is longer than what is handed
    return Handed(ids_N.view(B, S), real_BS, same)


def sightings(call: Call, term: str, handed: Handed, ends: frozenset[int]) -> tuple[Sighting, ...]:
    """Every single token that one term asks of the call at a known place, by row and position.

    `ends`: ids of stop and padding tokens.
    """
    asked = call.asked[term]
    found = sorted(zip(asked.at_N[asked.hard_N].tolist(), asked.token_N[asked.hard_N].tolist(), strict=True))
    S = handed.ids_BS.shape[1]
    return tuple(
        sighting
        for row, pairs in groupby(found, key=lambda pair: pair[0] // S)
        for sighting in _of_row(row, [(at % S, token) for at, token in pairs], handed, ends)
    )


def _of_row(row: int, pairs: Sequence[tuple[int, int]], handed: Handed, ends: frozenset[int]) -> list[Sighting]:
    ids, real = handed.ids_BS[row].tolist(), handed.real_BS[row].tolist()
    found: list[Sighting] = []
    run = 0  # stop tokens asked for just before
    for s, token in pairs:
        run = run + 1 if token in ends else 0
        near = tuple(ids[s + k] if s + k < len(ids) else None for k in range(3))
        next_is_masked = s + 1 < len(ids) and not real[s + 1]
        is_padding = not real[s] or (next_is_masked and run != 1) or run > MOST_ENDS
        twin = handed.same.get(token, token)
        shifts = (Shift.UNSHIFTED, Shift.ONCE, Shift.TWICE)
        fits = tuple(shift for shift, id_ in zip(shifts, near, strict=True) if id_ is not None and id_ in (token, twin))
        ends_unhanded = next_is_masked and not is_padding  # asked to stop where the row ends: nothing contradicts
        seen = (near[0], None, None) if ends_unhanded and Shift.ONCE not in fits else (near[0], near[1], near[2])
        found.append(Sighting(row, s, token, seen, fits, is_padding))
    return found


def shift_of(seen: Sequence[Sighting]) -> Shift:
    """What all of them say together. A token that fits two shifts decides between neither."""
    judged = [one for one in seen if one.is_padding or not one.is_past]
    if not judged:
        return Shift.PAST if seen else Shift.UNTOLD
    wrong = odd(judged)
    if not wrong:
        return Shift.ONCE if any(one.fits == (Shift.ONCE,) for one in judged) else Shift.UNTOLD
    if all(one.is_padding for one in wrong):
        return Shift.PADDING
    rest = [one for one in wrong if not one.is_padding]
    for shift in (Shift.TWICE, Shift.UNSHIFTED):
        if all(shift in one.fits for one in rest):
            return shift
    if all(one.near[1] == -1 and not one.fits for one in rest):
        return Shift.SOFT if len(rest) < len(judged) else Shift.UNTOLD
    return Shift.OTHER


def odd(seen: Sequence[Sighting]) -> list[Sighting]:
    """Those that are not the token handed next."""
    return [one for one in seen if one.is_padding or (not one.is_past and Shift.ONCE not in one.fits)]


# --- the order of rows -------------------------------------------------------------------------------------------


def soft_rows(call: Call, handed: Handed) -> list[Tensor]:
    """soft_MD of each row, float32 on the CPU."""
    soft_BS = (handed.ids_BS < 0) & handed.real_BS
    return [x_SD[soft_S] for x_SD, soft_S in zip(call.embeds_BSD.float().cpu(), soft_BS, strict=True)]


def sources_of(rows: Sequence[Tensor], alone: Sequence[Tensor]) -> list[int]:
    """For each row of a batch, which text of those run alone has the most similar soft tokens.

    The rows' own numbers where there are no soft tokens, or not as many.
    """
    found = list(range(len(rows)))
    for n, soft_MD in enumerate(rows):
        if len(soft_MD) and all(one_MD.shape == soft_MD.shape for one_MD in alone):
            found[n] = int(torch.stack([(one_MD - soft_MD).norm() for one_MD in alone]).argmin())
    return found


# --- who answers -------------------------------------------------------------------------------------------------


def answering(seen: Observation) -> frozenset[SideName]:
    """The models whose logits the loss asks something of: another one only reads, and hands on what it read.

    Every model that a gradient comes back through where none is asked, as by a loss past the heads.
    """
    reached = [call for call in seen.calls if call.with_grad]
    asked = {call.side for call in reached if any(len(asked.at_N) for asked in call.asked.values())}
    return frozenset(asked or {call.side for call in reached})
