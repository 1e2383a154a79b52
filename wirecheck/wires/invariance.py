"""What a wire's step should not depend on, and what it should: the rows beside a row, and the source.

    B batch   S positions of a forward   D model width   V vocabulary   N positions a loss is taken on

A row's loss is L_r alone. In a batch it enters as Σ c_r L_r, and d/dlogits of the batch is c_r times that of the row
alone: c_r is read from the two gradients, whatever the loss is made of.

    tokens   c_r = n_r / Σ n          rows   c_r = 1 / B          sum   c_r = 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from wirecheck.wires.alignment import answering
from wirecheck.wires.contract import Batch, HasBackward, SideName, WiredModel
from wirecheck.wires.failure import StepFailed
from wirecheck.wires.samples import TWO_SOURCES
from wirecheck.wires.steady import Forward, Said, SteadyWire, forward_of, real_positions, rounding, said
from wirecheck.wires.watch import Call, handed_ids

SHARE = 1e-3
"""Relative difference of a row's share of the batch's loss from what a mean or a sum would give it."""
SHARE_STEPS = 4
"""The same in rounding steps of the logits' type, where those are more: a gradient comes back in that type too, and a
third of a step is seen."""


# --- WIR08: a row alone, and among others ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What becomes of what one model says of one row when others join it."""

    side: SideName
    row: int
    alone: int
    """Positions the loss rests on, of the row by itself."""
    batched: int
    """The same in the batch."""
    difference: float
    """Largest difference of a log-probability at those positions; infinite where they are not as many."""
    allowed: float
    dtype: torch.dtype
    """Of the logits, whose rounding is allowed for."""

    @property
    def is_same(self) -> bool:
        """Whether the other rows change nothing."""
        return self.difference <= self.allowed


def joined(alone: Said, batched: Said, side: SideName, row: int) -> Joined:
    """Compares what is said of a row in two batches."""
    counts, dtype = (len(alone.logp_NV), len(batched.logp_NV)), _coarser(alone, batched)
    difference, allowed = float("inf"), rounding(alone.logp_NV, batched.logp_NV, dtype=dtype)
    if counts[0] == counts[1]:
        difference = float((alone.logp_NV - batched.logp_NV).abs().max())
    return Joined(
        side=side, row=row, alone=counts[0], batched=counts[1], difference=difference, allowed=allowed, dtype=dtype
    )


def _coarser(*rows: Said) -> torch.dtype:
    return max((one.dtype for one in rows), key=lambda dtype: torch.finfo(dtype).eps)


def in_order(alone: Sequence[Said], batched: Sequence[Said]) -> list[Said]:
    """Rows of a batch in the order of those run alone: a wire may sort its rows, by length say.

    A row is another's where it is asked the same tokens, in the same order. Where several are, it is the one of its own
    number, unless another says the same as the row alone and that one does not. Where some row's tokens are asked of
    none, as where padding is asked for too, all keep their numbers.
    """
    left, found = list(enumerate(batched)), []
    for row, own in enumerate(alone):
        asked = [(n, one) for n, one in left if torch.equal(one.token_N, own.token_N)]
        if not asked:
            return list(batched[: len(alone)])
        ranked = sorted((not joined(own, one, "a", row).is_same, n != row, n) for n, one in asked)
        chosen = ranked[0][-1]
        found.append(batched[chosen])
        left = [(n, one) for n, one in left if n != chosen]
    return found


class Beside(StrEnum):
    """What may stand beside a row."""

    EQUAL = "a row of equal lengths"
    LONGER_SOURCE = "a row of a longer source"
    LONGER_ANSWER = "a row of a longer answer"


def beside(steady: SteadyWire, batch: Batch, side: SideName) -> dict[Beside, Joined | None]:
    """Beside the first row of `batch`, one of each kind; None where rows cannot be told. Raises StepFailed."""
    source, answer = batch.sources[0], batch.answers[0]
    other, longer = long_source(len(source.encode()), ""), " ".join((answer, *batch.answers[1:]))
    kinds = {
        Beside.EQUAL: (other, answer),
        Beside.LONGER_SOURCE: (f"{other} {other}", answer),
        Beside.LONGER_ANSWER: (other, longer),
    }
    alone = said(steady.observe(Batch((source,), (answer,))).of(side), 0, 1)
    found: dict[Beside, Joined | None] = {}
    for kind, (other_source, other_answer) in kinds.items():
        pair = steady.observe(Batch((source, other_source), (answer, other_answer)))
        among = [one for row in (0, 1) if (one := said(pair.of(side), row, 2)) is not None]
        found[kind] = joined(alone, in_order((alone,), among)[0], side, 0) if alone and among else None
    return found


# --- WIR09: how the rows make the batch's loss -------------------------------------------------------------------


class Mean(StrEnum):
    """How a batch's loss is made of its rows'."""

    TOKENS = "every token alike"
    ROWS = "every row alike"
    SUM = "the sum of the rows' losses"
    NEITHER = "neither"


@dataclass(frozen=True, eq=False)
class Shares:
    """What each row's loss counts for in the batch's, forward by forward of one model."""

    share_CB: Tensor
    """c_r; NaN where the loss rests on no position of that row in that forward."""
    count_CB: Tensor
    """Positions it rests on."""
    allowed: float = SHARE
    """Relative difference of a share that rounding may make."""

    def mean(self) -> Mean:
        """The rule that all shares follow; the first where several fit, as when all rows are equally long."""
        calls = range(len(self.share_CB))
        for rule in (Mean.TOKENS, Mean.ROWS, Mean.SUM):
            if all(self._follows(rule, call) for call in calls):
                return rule
        return Mean.NEITHER

    def _follows(self, rule: Mean, call: int) -> bool:
        share_B, B = self.share_CB[call], self.share_CB.shape[1]
        match rule:
            case Mean.TOKENS:  # the loss may be a mean over several forwards together, such as one for each token
                ends = range(call + 1, len(self.share_CB) + 1)
                return any(
                    self._is(share_B, count_B / count_B.sum())
                    for begin in range(call + 1)
                    for end in ends
                    if (count_B := self.count_CB[begin:end].sum(dim=0)).any()
                )
            case Mean.ROWS:
                return self._is(share_B, torch.full_like(share_B, 1 / B))
            case Mean.SUM:
                return self._is(share_B, torch.ones_like(share_B))
            case Mean.NEITHER:
                return True

    def _is(self, share_B: Tensor, expected_B: Tensor) -> bool:
        asked_B = ~share_B.isnan()
        return bool(torch.isclose(share_B[asked_B], expected_B[asked_B].to(share_B), rtol=self.allowed, atol=0).all())


def shares(alone: Sequence[Said], batched: Sequence[Said]) -> Shares | None:
    """What each row counts for; the rows alone and in the batch, in their order.

    None where some row's gradient in the batch is no multiple of its own: the loss is no sum over rows.
    """
    C, B = 1 + max(int(one.call_N.max()) for one in batched), len(batched)
    allowed = max(SHARE, SHARE_STEPS * torch.finfo(_coarser(*alone, *batched)).eps)
    share_CB, count_CB = torch.full((C, B), torch.nan), torch.zeros(C, B)
    for row, (own, among) in enumerate(zip(alone, batched, strict=True)):
        for call in sorted(set(among.call_N.tolist())):
            here_N = among.call_N == call
            own_V, among_V = own.grad_NV[here_N].flatten(), among.grad_NV[here_N].flatten()
            share = (own_V @ among_V) / (own_V @ own_V)
            if not (among_V - share * own_V).norm() <= 10 * allowed * among_V.norm():
                return None
            share_CB[call, row], count_CB[call, row] = share, here_N.sum()
    asked_C = count_CB.any(dim=1)
    return Shares(share_CB[asked_C], count_CB[asked_C], allowed)


# --- WIR11, WIR16: what of the source reaches the models ---------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Reached:
    """How far apart one model's part of the step is for two sources that differ."""

    side: SideName
    is_soft: bool
    """Whether the model was handed soft tokens, which were compared; else its logits where the loss is taken were."""
    distance: float
    """Largest difference over the RMS of the soft tokens, or over the deviation of the log-probabilities."""
    only_soft: bool = False
    """Whether nothing else that the model was handed differs, such as the source as text."""


def reached(
    steady: SteadyWire, batch: Batch, forward: Forward | None = None, known: Sequence[Reached] = ()
) -> tuple[Reached, ...] | None:
    """Of each model that is asked something in the loss of two rows, equal but for the source; `forward` is theirs.

    `known`: the same of two other sources, so that the table need not be asked again what is a soft token. None where
    rows cannot be told apart. Raises StepFailed.
    """
    only_soft = {one.side for one in known if one.only_soft}
    if forward is None and isinstance(steady.wire, HasBackward):  # whose schedule may run other forwards
        forward = steady.forward(batch)
    seen = None if known and forward else steady.observe(batch)
    if forward is None:
        assert seen is not None, "neither a forward nor a step"
        forward = forward_of(seen)
    sides = answering(seen) if seen else {one.side for one in known}
    found: list[Reached] = []
    for one in steady.models:
        calls = forward.of(one.side)
        if not calls or one.side not in sides:
            continue
        if any(len(call.embeds_BSD) != len(batch.sources) for call in calls):
            return None
        soft = _soft(one, calls[0], is_known=one.side in only_soft)
        if soft is None:
            seen = seen or steady.observe(batch)
            left, right = (said(seen.of(one.side), row, len(batch.sources)) for row in (0, 1))
            if left is None or right is None or left.logp_NV.shape != right.logp_NV.shape:
                return None
            moved = float((left.logp_NV - right.logp_NV).abs().max() / left.logp_NV.std())
            soft = Reached(side=one.side, is_soft=False, distance=moved)
        found.append(soft)
    return tuple(found)


def _soft(one: WiredModel, call: Call, *, is_known: bool) -> Reached | None:
    """Of the soft tokens of two rows of equal lengths; None where the rows hold none."""
    left_SD, right_SD = call.embeds_BSD
    real_S = real_positions(call).any(dim=0)
    moved_S = (left_SD - right_SD).abs().amax(dim=-1) * real_S
    places = moved_S.nonzero()[:, 0]
    is_soft = torch.ones_like(places, dtype=torch.bool)
    if len(places) and not is_known:
        is_soft = handed_ids(one, left_SD[None, places])[0] < 0
    if bool(is_soft.any()):
        soft = places[is_soft]
        distance = float(moved_S[soft].max() / left_SD[soft].square().mean().sqrt().clamp_min(1e-12))
        return Reached(side=one.side, is_soft=True, distance=distance, only_soft=bool(is_soft.all()))
    if is_known or bool((handed_ids(one, left_SD[None, real_S]) < 0).any()):
        return Reached(side=one.side, is_soft=True, distance=0.0)
    return None


@dataclass(frozen=True, kw_only=True)
class ReadTo:
    """How long a source may be for its end to reach every model."""

    read: tuple[int, ...]
    """Lengths in bytes at which it does."""
    lost: int | None
    """The first at which it does not."""
    why_no_longer: str
    """Why nothing longer was tried; empty where everything was."""


LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
"""Bytes of the sources that are tried."""
LEAST_REACH = 1e-5
"""Distance that counts as reached: a last sentence among thousands of bytes is a small part of a mean."""
MOST_LOGITS_BYTES = 1 << 30
"""A wire that has a model read the source makes logits of all of it; longer sources are not tried above this."""
_SENTENCES = "The café opens at six, the market at nine. Boats leave from the old quay when the wind is right. "


def read_to(steady: SteadyWire, answer: str, lengths: Sequence[int], known: Sequence[Reached]) -> ReadTo | None:
    """Sources that differ in their last sentence alone, longer and longer; `known` as for `reached`.

    None where rows cannot be told apart. Raises StepFailed where the first length already fails; later on, a failure is
    why nothing longer was tried.
    """
    read: list[int] = []
    held_bytes = [0]
    for num_bytes in lengths:
        why = _beyond(steady, num_bytes, held_bytes)
        if why:
            return ReadTo(read=tuple(read), lost=None, why_no_longer=why)
        batch = Batch(
            (long_source(num_bytes, TWO_SOURCES[0]), long_source(num_bytes, TWO_SOURCES[1])), (answer, answer)
        )
        try:
            forward = steady.forward(batch)
        except StepFailed as failure:
            if not read:
                raise
            return ReadTo(read=tuple(read), lost=None, why_no_longer=f"at {num_bytes} bytes the step fails: {failure}")
        found = reached(steady, batch, forward, known)
        if found is None:
            return None
        if min(one.distance for one in found) < LEAST_REACH:
            return ReadTo(read=tuple(read), lost=num_bytes, why_no_longer="")
        held_bytes.append(max(call.logits_BSV.numel() * call.logits_BSV.itemsize for call in forward.calls))
        read.append(num_bytes)
    return ReadTo(read=tuple(read), lost=None, why_no_longer="")


def _beyond(steady: SteadyWire, num_bytes: int, held_bytes: Sequence[int]) -> str:
    """Why a source of that length is not given to a wire, which may have either model read it; empty where it is.

    `held_bytes`: the largest logits of the shorter ones.
    """
    if len(held_bytes) > len((0, 1)) and held_bytes[-1] > held_bytes[-2] and 2 * held_bytes[-1] > MOST_LOGITS_BYTES:
        return f"{num_bytes} bytes would make more than {MOST_LOGITS_BYTES >> 20} MiB of logits"
    for one in steady.models:
        num_tokens = len(one.tokenizer.encode(long_source(num_bytes, TWO_SOURCES[0]))) + 64
        positions = getattr(one.model.config.get_text_config(), "max_position_embeddings", None)
        if isinstance(positions, int) and num_tokens > positions:
            return f"{num_bytes} bytes are more than the {positions} positions of {one.side.upper()} hold"
    return ""


def long_source(num_bytes: int, end: str) -> str:
    """Text of exactly that many bytes of UTF-8, `end` being its last sentence."""
    room = num_bytes - len(end.encode())
    body = (_SENTENCES * (room // len(_SENTENCES) + 1)).encode()[:room].decode(errors="ignore")
    return body.ljust(len(body) + room - len(body.encode()), ".") + end
