"""One step of any wire, watched from outside: what each frozen model was handed, and what the loss asks of it.

    B batch   S positions of a forward   D model width   N vectors   R rows of the table

Nothing of the wire is known but its contract. Used by every probe of the wire: signatures stay, and new fields have
defaults.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wirecheck.wires.calls import Call, Notes, graph_of, hooked
from wirecheck.wires.contract import Batch, HasBackward, SideName, Wire, WiredModel
from wirecheck.wires.failure import StepFailed, part

__all__ = ["Call", "Observation", "handed_ids", "observe", "seeded", "terms", "trained_module", "watching"]


@dataclass(frozen=True, eq=False)
class Observation:
    """One step from cleared gradients, watched."""

    losses: dict[str, Tensor]
    """Terms of the loss by name, detached; `loss` where the wire gives a single tensor."""
    calls: tuple[Call, ...]
    """Forwards of the two models in their order."""
    strays: tuple[str, ...]
    """Tensors that received a gradient and are in no module: neither trained by name nor saved. Shapes in words."""
    reached: tuple[str, ...] = ()
    """Frozen parameters that the loss was differentiated with respect to, where it is not the wire that does so."""

    @property
    def loss(self) -> float:
        """The sum of the terms."""
        return float(sum(float(term) for term in self.losses.values()))

    def of(self, side: SideName) -> tuple[Call, ...]:
        """The forwards of one model that a gradient can come back through."""
        return tuple(call for call in self.calls if call.side == side and call.with_grad)


# --- one step ----------------------------------------------------------------------------------------------------


def observe(
    wire: Wire,
    models: tuple[WiredModel, WiredModel],
    batch: Batch,
    *,
    keep_logits: bool = True,
    seed: int = 0,
    own_schedule: bool = True,
) -> Observation:
    """Run and differentiate one step from cleared gradients. Raises StepFailed, MemoryError, CannotRun as `part` does.

    Gradients are left in the wire's module (and, where the wire does not freeze them, in the models). Dropout and the
    like draw from `seed`; the generators are left as they were. With `keep_logits` false neither logits nor their
    gradient outlive the step: only what they ask for. With `own_schedule` false a wire's own `backward` is passed over,
    and its `loss` is differentiated as any other's.
    """
    module = trained_module(wire)
    for p in (*module.parameters(), *(p for m in models for p in m.model.parameters())):
        p.grad = None
    strays: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    schedule = wire if own_schedule and isinstance(wire, HasBackward) else None
    notes = Notes(keep_logits=keep_logits, hooked=schedule is not None)
    with hooked(models, notes), seeded(models, seed), torch.enable_grad():
        if schedule is not None:
            with part("step"):
                losses = {name: torch.as_tensor(term) for name, term in dict(schedule.backward(batch)).items()}
        else:
            with part("loss"):
                losses = terms(wire.loss(batch))
            leaves = _leaves(losses)
            made = {id(embedded) for embedded in notes.embedded}
            strays, reached = _strays(leaves, module, models, made), _reached(leaves, models)
            with part("backward"):
                notes.differentiate(losses)
                torch.autograd.backward(tuple(losses.values()))
    notes.drop()
    return Observation({name: loss.detach() for name, loss in losses.items()}, tuple(notes.calls), strays, reached)


def trained_module(wire: Wire) -> nn.Module:
    """The wire's module. Raises StepFailed where it has none."""
    with part("module"):
        module: Any = wire.module
        if not isinstance(module, nn.Module):
            raise StepFailed("module", f"the wire's `module` is a {type(module).__name__}, not a torch module")
    return module


def terms(loss: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The terms of a loss by name. Raises StepFailed where it is no scalar that can be differentiated."""
    named = dict(loss) if isinstance(loss, Mapping) else {"loss": loss}
    for name, term in named.items():
        if not isinstance(term, Tensor):
            raise StepFailed("loss", f"{name} is a {type(term).__name__}, not a tensor")
        if term.numel() != 1 or not term.requires_grad:
            raise StepFailed("loss", f"{name} has shape {list(term.shape)} and requires_grad {term.requires_grad}")
    if not named:
        raise StepFailed("loss", "no term was returned")
    return named


@contextmanager
def seeded(models: tuple[WiredModel, WiredModel], seed: int) -> Iterator[None]:
    """Random numbers inside come from `seed`; the generators of the models' devices are left as they were."""
    devices = {one.model.device for one in models if one.model.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield


@contextmanager
def watching(models: tuple[WiredModel, WiredModel], *, keep_logits: bool = True) -> Iterator[list[Call]]:
    """Notes every forward of the two models inside, in order; and what is asked of them, once it is differentiated."""
    notes = Notes(keep_logits=keep_logits, hooked=True)
    with hooked(models, notes):
        yield notes.calls
    notes.drop()


def _leaves(losses: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """Every tensor that the losses are differentiated with respect to, by its identity."""
    leaves = (getattr(node, "variable", None) for node in graph_of(losses.values()))
    return {id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}


def _strays(
    leaves: Mapping[int, Tensor], module: nn.Module, models: tuple[WiredModel, WiredModel], made: Collection[int]
) -> tuple[str, ...]:
    """Those that belong neither to the wire's module nor to a model, and were not made by a model in this step.

    Gradient checkpointing as the library switches it on makes every embedded text ask for a gradient.
    """
    known = {id(p) for p in module.parameters()} | {id(p) for m in models for p in m.own_parameters().values()}
    known.update(made)
    words = []
    for leaf in (leaf for key, leaf in leaves.items() if key not in known):
        kind = "parameter" if isinstance(leaf, nn.Parameter) else "tensor"
        words.append(f"{kind} of shape {' x '.join(str(size) for size in leaf.shape) or 'scalar'}")
    return tuple(sorted(words))


def _reached(leaves: Mapping[int, Tensor], models: tuple[WiredModel, WiredModel]) -> tuple[str, ...]:
    return tuple(f"{one.side}.{name}" for one in models for name, p in one.own_parameters().items() if id(p) in leaves)


# --- tokens by their vectors -------------------------------------------------------------------------------------


def handed_ids(one: WiredModel, embeds_BSD: Tensor) -> Tensor:
    """ids_BS int64: the token whose embedding each position holds; -1 where no token's does (a soft token).

    Read from the vectors alone, by comparing them with `embed(every id)`, so that no word of the wire is taken for it.
    Rows of the table that are equal to one another are told by the first of them.
    """
    embedding = one.model.get_input_embeddings()
    num_rows = next(embedding.parameters()).shape[0]
    x_ND = embeds_BSD.flatten(0, 1)
    ruler_D = torch.linspace(0, 40, x_ND.shape[1], device=x_ND.device).cos()
    key_N, slack_N = x_ND.float() @ ruler_D, 2 * SAME * (x_ND.float().abs() @ ruler_D.abs())
    found_N = torch.full((len(x_ND),), num_rows, dtype=torch.long, device=x_ND.device)
    is_told_N = key_N.isfinite() & slack_N.isfinite()
    sorted_N = key_N[is_told_N].sort().values
    if not len(sorted_N):
        return (found_N - num_rows - 1).view(embeds_BSD.shape[:2])
    reach = (
        1.001 * slack_N[is_told_N].max() + ROUNDING * sorted_N.abs().max()
    )  # no row that is near to one is passed over
    with torch.no_grad():
        for start in range(0, num_rows, ROWS_AT_ONCE):
            rows_RD = embedding(torch.arange(start, min(start + ROWS_AT_ONCE, num_rows), device=x_ND.device))
            rows_RD = rows_RD.to(x_ND.dtype)
            key_R = rows_RD.float() @ ruler_D
            first_R, end_R = (
                torch.searchsorted(sorted_N, key_R + by, right=right) for by, right in ((-reach, False), (reach, True))
            )
            some_R = (first_R < end_R).nonzero()[:, 0]  # few: those near to some vector
            near_NR = (key_N[:, None] - key_R[some_R]).abs() <= slack_N[:, None]
            near_NR &= (found_N == num_rows)[:, None]
            for n_P, r_P in zip(*(each.split(PAIRS_AT_ONCE) for each in near_NR.nonzero(as_tuple=True)), strict=True):
                row_P = some_R[r_P]
                same_P = x_ND[n_P].isclose(rows_RD[row_P], rtol=SAME).all(dim=1)
                found_N.scatter_reduce_(0, n_P[same_P], start + row_P[same_P], "amin")
    return found_N.masked_fill(found_N == num_rows, -1).view(embeds_BSD.shape[:2])


SAME = 1e-5
"""Relative difference of two float32 vectors that are one; narrower types tell no less than they can hold."""
ROUNDING = 1e-6
"""Of a projection, in float32, at the size of the largest: some steps."""
ROWS_AT_ONCE = 4096
"""Rows of the table projected at once: a 262,144-row table is never copied whole."""
PAIRS_AT_ONCE = 4096
"""Vectors and rows of one projection that are compared whole at once."""
