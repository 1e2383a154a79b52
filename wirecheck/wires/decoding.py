"""Greedy generation from what the wire hands a model: with the cache as without it, and by the wire's own loop.

B rows   S positions   C positions of a row's context   N new tokens   D model width   V vocabulary

context_CD   what stands before the row's first answer token, as the model was handed it in training
full         logits of one uncached forward over [context][new tokens]: in a causal model those of N full forwards
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from wirecheck import zoo
from wirecheck.wires.contract import SIDES, Batch, Generates, SideName, WiredModel
from wirecheck.wires.failure import StepFailed, part
from wirecheck.wires.steady import Said, SteadyWire, real_positions
from wirecheck.wires.surroundings import PLAIN, Surroundings, decoding, surroundings
from wirecheck.wires.watch import Call, watching

T = TypeVar("T")
NEW_TOKENS = 4
"""The second is the first that is read from the cache, the third the first that was written to it by hand."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Context:
    """What one model is handed of one row, by itself, before its first answer token."""

    row: int
    embeds_CD: Tensor
    logp_V: Tensor
    """What it said there in training, float32."""
    has_more: bool
    """Whether attention is told of positions that no embedding was handed for: keys and values from outside."""
    around: Surroundings = PLAIN
    """What else it is handed, as far as it was looked up."""


def context_of(calls: Sequence[Call], spoken: Said, row: int) -> Context:
    """From the first forward that the loss rests on. `calls` are one model's for that row alone, `spoken` what it said
    in them.
    """
    call, last = calls[int(spoken.call_N[0])], int(spoken.position_N[0])
    real_S = real_positions(call)[0]
    real_S[last + 1 :] = False
    mask = call.mask_BS
    return Context(
        row=row,
        embeds_CD=call.embeds_BSD[0, real_S],
        logp_V=spoken.logp_NV[0],
        has_more=mask is not None and mask.shape[-1] > call.embeds_BSD.shape[1],
    )


def with_surroundings(
    steady: SteadyWire, one: WiredModel, batch: Batch, context: Context, call: Call
) -> Context | None:
    """The context with what stands around it in training; None where that cannot be had, or does not bring back what
    the model says there. `batch`: that row alone; `call`: the forward that the context is of.
    """
    around = surroundings(steady, one, batch, call)
    if around is None:
        return None
    found = replace(context, around=around)
    try:
        return found if stands_alone(one, found) else None
    except StepFailed:  # a class that takes them in another way than this one: it is not shown
        return None


# --- without a cache ---------------------------------------------------------------------------------------------


@torch.no_grad()
def full(one: WiredModel, context: Context, tokens: Sequence[int]) -> Tensor:
    """logp_(N+1)V float32: after the context, and after each token. Raises StepFailed, MemoryError, CannotRun."""
    given_1CD = context.embeds_CD[None].clone()
    if tokens:
        ids_1N = torch.tensor([list(tokens)], device=given_1CD.device)
        given_1CD = torch.cat((given_1CD, one.model.get_input_embeddings()(ids_1N).to(given_1CD)), dim=1)
    mask_1S = torch.ones(given_1CD.shape[:2], dtype=torch.long, device=given_1CD.device)
    around = context.around
    with zoo.quiet(), decoding(one), around.entered(given_1CD.device), part(f"model {one.side}", embeds=given_1CD):
        output = one.model(inputs_embeds=given_1CD, **around.given(mask_1S))
    logits_SV: Tensor = output.logits[0]
    return logits_SV[-len(tokens) - 1 :].float().log_softmax(dim=-1)


def stands_alone(one: WiredModel, context: Context) -> bool:
    """Whether the context by itself makes the model say what it said in training: not so where the wire hands it keys
    and values, runs it in another type, or numbers its positions in another way.
    """
    logp_V = full(one, context, ())[0]
    return float((logp_V - context.logp_V).abs().max()) <= context.around.allowed(logp_V)


# --- with one ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """New tokens of one row, beside what full forwards over the same tokens say."""

    side: SideName
    row: int
    tokens: tuple[int, ...]
    first_wrong: int | None
    """Number of the first token that full forwards do not choose; None where they choose all."""
    shortfall: float
    """How far the worst chosen token's log-probability lies below the largest."""
    difference: float | None
    """Largest difference of a log-probability on the way; None where the logits were not seen."""
    allowed: float
    rounding: str
    """`allowed` in words."""
    ended_early: bool = False
    """Whether the row ends before it was to, and not at a stop token."""

    @property
    def is_same(self) -> bool:
        """Whether cached and uncached generation agree, ties within rounding aside."""
        close = self.difference is None or self.difference <= self.allowed
        return self.first_wrong is None and close and not self.ended_early


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How many tokens a loop was to make, and the ids it may end a row with, or leave out there."""

    num_tokens: int = NEW_TOKENS
    ends: frozenset[int] = frozenset()

    def made(self, row: Sequence[int]) -> list[int]:
        """A row up to and with the token that ends it: behind it a class pads."""
        end = next((n for n, token in enumerate(row) if token in self.ends), len(row))
        return [int(token) for token in row[: end + 1]]


def judged(one: WiredModel, context: Context, tokens: Sequence[int], heard: Sequence[Tensor], asked: Asked) -> Decoded:
    """Tokens of some loop against full forwards over them.

    `heard`: logp_NV, what the model said in that loop; of several that may be it the nearest counts.
    """
    full_NV, N = full(one, context, tokens), len(tokens)
    allowed = context.around.allowed(full_NV)
    chosen_N = full_NV[:N].gather(-1, torch.tensor(tokens, dtype=torch.long)[:, None])[:, 0] if N else full_NV[:0, 0]
    short_N = full_NV[:N].amax(dim=-1) - chosen_N
    wrong = (short_N > allowed).nonzero()[:, 0].tolist()
    stopped = bool(N) and tokens[-1] in asked.ends
    return Decoded(
        side=one.side,
        row=context.row,
        tokens=tuple(tokens),
        first_wrong=wrong[0] if wrong else None,
        shortfall=float(short_N.max()) if N else 0.0,
        difference=min((float((logp_NV - full_NV[:N]).abs().max()) for logp_NV in heard), default=None),
        allowed=allowed,
        rounding=context.around.rounding,
        ended_early=asked.num_tokens > N and not stopped and int(full_NV[N].argmax()) not in asked.ends,
    )


@torch.no_grad()
def by_generate(one: WiredModel, context: Context) -> Decoded:
    """`model.generate` from the context, greedy, its mask given. Raises StepFailed where the class refuses."""
    model: Any = one.model
    embeds_1CD = context.embeds_CD[None].clone()
    mask_1C = torch.ones(embeds_1CD.shape[:2], dtype=torch.long, device=embeds_1CD.device)
    with (
        zoo.quiet(),
        decoding(one),
        context.around.entered(embeds_1CD.device),
        _plain_generation(one) as plain,
        part(f"generate of {one.side}", embeds=embeds_1CD),
    ):
        made = model.generate(inputs_embeds=embeds_1CD, attention_mask=mask_1C, generation_config=plain)
        tokens = made.sequences[0].tolist()[-NEW_TOKENS:]
        logp_NV = torch.cat(list(made.logits)).float().log_softmax(dim=-1)
    return judged(one, context, tokens, (logp_NV,), Asked())


@contextmanager
def _plain_generation(one: WiredModel) -> Iterator[Any]:
    """The model's generation config replaced by a bare greedy one: no stop token, penalty or forced token."""
    model: Any = one.model
    held = model.generation_config
    told = {"output_logits": True, "return_dict_in_generate": True}
    model.generation_config = type(held)(
        max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0, use_cache=True, **told
    )
    try:
        yield model.generation_config
    finally:
        model.generation_config = held


# --- the wire's own loop -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Loop:
    """One run of a wire's `generate`."""

    made: dict[SideName, list[list[int]]]
    calls: tuple[Call, ...]
    """Forwards of both models on the way."""

    def begins_otherwise(self, side: SideName, contexts: Sequence[Context]) -> list[Context]:
        """Rows whose first new token is not what the model says there in training, ties within rounding aside."""
        pairs = [(context, row[0]) for context, row in zip(contexts, self.made.get(side, ()), strict=False) if row]
        return [c for c, token in pairs if float(c.logp_V.max() - c.logp_V[token]) > c.around.allowed(c.logp_V)]


def by_side(part_name: str, made: Mapping[Any, T]) -> dict[SideName, T]:
    """What a wire gives by model, its names looked at. Raises StepFailed where it names other than `a` and `b`."""
    sides = {side: made[side] for side in SIDES if side in made}
    others = [str(name) for name in made if name not in sides]
    if others:
        raise StepFailed(part_name, f"{', '.join(map(repr, others))} named; the models are 'a' and 'b'")
    return sides


def run_loop(steady: SteadyWire, batch: Batch) -> Loop:
    """The wire's own decoding of a batch, the models in eval mode.

    Raises StepFailed, also where it names no model, or does not give one row for each text.
    """
    wire = steady.wire
    assert isinstance(wire, Generates)
    with (
        steady.steady(),
        decoding(*steady.models),
        torch.no_grad(),
        watching(steady.models) as calls,
        part("generate"),
    ):
        rows_of = {
            side: [[int(i) for i in row] for row in rows] for side, rows in wire.generate(batch, NEW_TOKENS).items()
        }
    made = by_side("generate", rows_of)
    if not made:
        raise StepFailed("generate", "no model is named: give new token ids for 'a' or 'b', or leave `generate` out")
    for side, rows in made.items():
        if len(rows) != len(batch.sources):
            raise StepFailed("generate", f"{len(rows)} rows for {side.upper()}, of {len(batch.sources)} texts")
    return Loop(made=made, calls=tuple(calls))


def by_wire(one: WiredModel, loop: Loop, contexts: Sequence[Context], ends: frozenset[int]) -> list[Decoded]:
    """Each row of the wire's own loop against full forwards from its context. Raises StepFailed."""
    asked, rows = Asked(ends=ends), loop.made.get(one.side, [])
    calls = [call for call in loop.calls if call.side == one.side]
    made = [(context, asked.made(row)) for context, row in zip(contexts, rows, strict=False)]
    return [
        judged(one, context, tokens, _heard(calls, context.row, tokens, len(rows)), asked) for context, tokens in made
    ]


def _heard(calls: Sequence[Call], row: int, tokens: Sequence[int], num_rows: int) -> list[Tensor]:
    """logp_NV of every run of forwards whose last positions choose those tokens, one after the other."""
    rows = [call.logits_BSV for call in calls if call.logits_BSV.shape[:1] == (num_rows,) and call.logits_BSV.numel()]
    last = [logits_BSV[row, -1].float() for logits_BSV in rows]
    N = len(tokens)
    runs = (last[begin : begin + N] for begin in range(len(last) - N + 1)) if N else ()
    return [
        torch.stack(run).log_softmax(dim=-1)
        for run in runs
        if all(int(logits_V.argmax()) == token for logits_V, token in zip(run, tokens, strict=True))
    ]
