"""The forwards of two frozen models while a wire runs: what each was handed, what it gave, what comes back to it.

    B batch   S positions of a forward   D model width   V vocabulary   K rows of logits, flattened

Forward hooks note the embeddings a model is handed and the logits it gives; the loss differentiated with respect to
those logits tells which tokens it asks for. A wire that calls a model's body and its head by themselves, or the head
on parts of the sequence, is watched there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from wirecheck.wires.contract import SideName, WiredModel
from wirecheck.wires.targets import Asked, asked_rows, read_asked

BSD = 3
"""Dimensions of what goes through a model: rows, positions, width."""


@dataclass(eq=False)
class Call:
    """One forward of a frozen model; or of its head, on what its body gave before."""

    side: SideName
    embeds_BSD: Tensor
    """What block 0's input is made of, detached: `inputs_embeds`, or the embedding of `input_ids`."""
    ids_BS: Tensor | None
    """`input_ids` where they were given."""
    mask_BS: Tensor | None
    logits_BSV: Tensor
    """Detached. Where the wire keeps some positions only, S is smaller here than in the embeddings (see `at_K`)."""
    with_grad: bool
    """Whether a gradient can come back: not for a teacher under no_grad."""
    at_K: Tensor
    """int64: for each row of the logits, flattened, its place b S + s in the embeddings; -1 where unknown."""
    grad_BSV: Tensor | None = None
    """d loss / d logits, once the step has been differentiated; None where none came, or logits are not kept."""
    rows_N: Tensor | None = None
    """int64: the rows of the logits, flattened, where that gradient is not zero; None as it is."""
    asked: dict[str, Asked] = field(default_factory=dict)
    """By term of the loss: what it asks of these logits. `""`: all terms together, of a wire with its own backward."""
    is_again: bool = False
    """Whether it was made in a backward pass, where a checkpoint runs its part again."""


@dataclass(eq=False)
class Notes:
    """The calls seen so far, and their logits as they stand in the graph, for as long as it is not differentiated."""

    keep_logits: bool
    hooked: bool
    """Whether gradients are noted when they come, whoever differentiates."""
    calls: list[Call] = field(default_factory=list)
    alive: list[tuple[Call, Tensor]] = field(default_factory=list)
    again: list[Call] = field(default_factory=list)
    """Those made in a backward pass, where a checkpoint runs its part again: they count where they are asked for."""
    embedded: list[Tensor] = field(default_factory=list)
    """What the models' embeddings gave that nothing before it is differentiated for: leaves, once asked for."""

    def add(self, call: Call, logits: Tensor) -> None:
        """One forward more, with its logits as they stand in the graph."""
        self.calls.append(call)
        if torch._C._current_graph_task_id() != -1:  # -1 outside of a backward pass
            self.again.append(call)
            call.is_again = True
        if call.with_grad and self.hooked:
            self._listen(call, logits)
        elif call.with_grad:
            self.alive.append((call, logits))

    def differentiate(self, losses: Mapping[str, Tensor]) -> None:
        """What each term asks, before all are differentiated together.

        Where no logits are reached by two terms, what will come back to them is one term's, and is noted then. Else
        each term by itself, back to the logits only: the models are not gone through; and then hooks take over.
        """
        alive, self.alive, self.hooked = self.alive, [], True
        owners = _owners(losses, [logits for _, logits in alive])
        if owners is not None:
            for (call, logits), term in zip(alive, owners, strict=True):
                if term is not None:
                    self._listen(call, logits, term)
            return
        try:
            for name, loss in losses.items():
                for call, logits in alive:
                    (grad,) = torch.autograd.grad(loss, logits, retain_graph=True, allow_unused=True)
                    if grad is not None:
                        self.keep(call, name, grad)
        except RuntimeError as error:
            if "checkpoint" not in str(error):
                raise
            for call, logits in alive:  # a loss under a reentrant checkpoint is differentiated as a whole or not at all
                call.asked.clear()
                call.grad_BSV = call.rows_N = None
                self._listen(call, logits)

    def keep(self, call: Call, term: str, grad: Tensor) -> None:
        """What a gradient that came back to those logits asks for."""
        grad_BSV = grad.detach().view_as(call.logits_BSV)
        rows_N = asked_rows(grad_BSV)
        more = read_asked(call.logits_BSV, grad_BSV, call.at_K, call.embeds_BSD.shape[1], rows_N)
        call.asked[term] = call.asked[term].and_also(more) if term in call.asked else more
        if self.keep_logits:
            is_first = call.grad_BSV is None
            call.grad_BSV = grad_BSV.clone() if call.grad_BSV is None else call.grad_BSV + grad_BSV
            call.rows_N = rows_N if is_first else asked_rows(call.grad_BSV)

    def _listen(self, call: Call, logits: Tensor, term: str = "") -> None:
        listen: Any = logits.register_hook  # not typed in torch
        listen(lambda grad: self.keep(call, term, grad))

    def drop(self) -> None:
        """Let go of what was only needed to differentiate."""
        self.alive.clear()
        self.embedded.clear()
        idle = {id(call) for call in self.again if not call.asked}
        self.calls[:] = [call for call in self.calls if id(call) not in idle]
        if not self.keep_logits:
            for call in self.calls:
                call.logits_BSV = call.logits_BSV[:, :0].clone()


def _owners(losses: Mapping[str, Tensor], logits: Sequence[Tensor]) -> list[str | None] | None:
    """Of each logits the one term that is differentiated through them, None where none is.

    None of all where two terms share some, or a node of the graph is not torch's own: what such a one gives back may
    depend on how often it is asked, as under a reentrant checkpoint.
    """
    owners: list[str | None] = [None] * len(logits)
    for term, loss in losses.items():
        nodes = graph_of([loss])
        if any(isinstance(node, BackwardCFunction) for node in nodes):
            return None
        for n, one in enumerate(logits):
            if one.grad_fn is None or (one.grad_fn in nodes and owners[n] is not None):
                return None
            if one.grad_fn in nodes:
                owners[n] = term
    return owners


def graph_of(losses: Iterable[Tensor]) -> set[Any]:
    """Every node that those losses are differentiated through, leaves' own among them."""
    seen: set[Any] = set()
    nodes: list[Any] = [loss.grad_fn for loss in losses]
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes.extend(parent for parent, _ in node.next_functions)
    return seen


@contextmanager
def hooked(models: tuple[WiredModel, WiredModel], notes: Notes) -> Iterator[None]:
    """Every forward of the two models inside is noted, in order."""
    with ExitStack() as stack:
        for one in models:
            for handle in _Ears(one, notes).handles():
                stack.callback(handle.remove)
        yield


class _Ears:
    """The hooks on one model: on the whole, and, for what is called outside of it, on its body and its head."""

    def __init__(self, one: WiredModel, notes: Notes) -> None:
        self.one = one
        self.notes = notes
        self.depth = 0  # of the whole model's forward: its own calls of body and head are not noted twice
        self.body: Call | None = None
        self.hidden_KD: Tensor | None = None

    def handles(self) -> Iterator[Any]:
        model: Any = self.one.model  # its getters are not typed
        yield model.register_forward_pre_hook(self._enter)
        yield model.register_forward_hook(self._whole, with_kwargs=True, always_call=True)
        tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        for table in {*tables, model.get_input_embeddings()}:
            yield table.register_forward_hook(self._embedded)
        body, head = model.get_decoder(), model.get_output_embeddings()
        if isinstance(body, nn.Module) and body is not model and isinstance(head, nn.Module):
            yield body.register_forward_hook(self._body, with_kwargs=True)
            yield head.register_forward_hook(self._head)

    def _enter(self, *_: Any) -> None:
        self.depth += 1

    def _embedded(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.grad_fn is None:
            self.notes.embedded.append(output)

    def _whole(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        self.depth -= 1
        logits = _logits(output)
        call = None if logits is None else self._call(args, kwargs)
        if call is None or logits is None:
            return
        B, S, _ = call.embeds_BSD.shape
        kept = kwargs.get("logits_to_keep")
        K = logits.shape[1]
        at_S = torch.arange(S - K, S) if not isinstance(kept, Tensor) else torch.arange(S)[kept.cpu()]
        call.at_K = (torch.arange(B)[:, None] * S + at_S).flatten()
        call.logits_BSV, call.with_grad = logits.detach(), bool(logits.requires_grad)
        self.notes.add(call, logits)

    def _body(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        hidden = getattr(output, "last_hidden_state", output[0] if isinstance(output, tuple) else None)
        if self.depth or not isinstance(hidden, Tensor) or hidden.dim() != BSD:
            return
        self.body = self._call(args, kwargs)
        if self.body is not None:
            self.hidden_KD = hidden.detach().flatten(0, 1)
            self.body.with_grad = bool(hidden.requires_grad)
            self.notes.calls.append(self.body)

    def _head(self, _module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.depth or self.body is None or self.hidden_KD is None or not isinstance(output, Tensor):
            return
        call = Call(
            side=self.one.side,
            embeds_BSD=self.body.embeds_BSD,
            ids_BS=self.body.ids_BS,
            mask_BS=self.body.mask_BS,
            logits_BSV=output.detach() if output.dim() == BSD else output.detach().flatten(0, -2)[None],
            with_grad=bool(output.requires_grad),
            at_K=_places(args[0].detach().flatten(0, -2), self.hidden_KD),
        )
        self.notes.add(call, output)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        ids, embeds = kwargs.get("input_ids", args[0] if args else None), kwargs.get("inputs_embeds")
        if embeds is None and ids is None:
            return None
        given = ids if embeds is None else None
        if embeds is None:
            with torch.no_grad():
                embeds = self.one.model.get_input_embeddings()(ids)
        return Call(
            side=self.one.side,
            embeds_BSD=embeds.detach().clone(),  # some classes scale their caller's tensor in place
            ids_BS=given,
            mask_BS=kwargs.get("attention_mask"),
            logits_BSV=embeds.detach().new_empty(embeds.shape[0], 0, 0),
            with_grad=False,
            at_K=torch.empty(0, dtype=torch.long),
        )


def _logits(output: Any) -> Tensor | None:
    if isinstance(output, tuple):
        return next((item for item in output if isinstance(item, Tensor) and item.dim() == BSD), None)
    logits = getattr(output, "logits", None)
    return logits if isinstance(logits, Tensor) else None


def _places(given_ND: Tensor, hidden_KD: Tensor) -> Tensor:
    """Which row of the body's output each vector given to the head is; -1 where none. Told by a random projection."""
    ruler_D = torch.linspace(1, 2, hidden_KD.shape[1], dtype=torch.float64).cos().to(hidden_KD.device)
    given_N, hidden_K = ((x.double() * ruler_D).sum(dim=-1) for x in (given_ND, hidden_KD))
    apart_N, place_N = (given_N[:, None] - hidden_K[None]).abs().min(dim=1)
    return torch.where(apart_N <= 1e-9 * hidden_K.abs().max(), place_N, -1).cpu()
