"""Live bytes of a step that runs on tensors without data: every storage's birth and death, as the allocator sees them.

The backend is torch's meta device under a dispatch mode. A storage is born with the first operation that returns it and
dies when its last tensor does; reference counts are those of the real step, since the real code runs.
"""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from wirecheck.errors import CannotRun
from wirecheck.vram import known, remembered
from wirecheck.vram.attention import Target, kernels_of
from wirecheck.vram.kernels import fused, hidden_bytes

Part = str
MOST_OPERATIONS = 1 << 20
"""Of one trace: a class that loops over positions in Python would go on for minutes."""


@dataclass(slots=True, eq=False)
class Block:
    """One storage on the device."""

    number: int
    size: int
    """Bytes, rounded as the device's allocator does."""
    part: Part
    op: str
    phase: str
    asked: int
    """Bytes before rounding."""
    stage: str = ""
    """What the step was doing at its birth; empty for what is nobody's, and says nothing of it."""


class Event(NamedTuple):
    """One change: a block is born (`bytes` > 0) or dies (0)."""

    block: int
    bytes: int


@dataclass
class Ledger:
    """What happened, in order."""

    blocks: list[Block] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    kernels: dict[str, int] = field(default_factory=dict)
    """How often each attention kernel was taken."""
    repeats: dict[int, int] = field(default_factory=dict)
    """Blocks that were not seen but told from another, which is: number -> number."""

    def peak(self) -> Peak:
        """The moment at which most bytes live; the first, where there are several."""
        live = most = at = 0
        for n, (block, size) in enumerate(self.events):
            live += size if size else -self.blocks[block].size
            if live > most:
                most, at = live, n
        alive: dict[int, Block] = {}
        for block, size in self.events[: at + 1]:
            if size:
                alive[block] = self.blocks[block]
            else:
                alive.pop(block)
        parts: dict[Part, int] = {}
        for one in alive.values():
            parts[one.part] = parts.get(one.part, 0) + one.size
        last = self.blocks[self.events[at].block] if self.events else None
        largest = tuple(sorted(alive.values(), key=lambda one: -one.size)[:20])
        return Peak(most, parts, last.phase if last else "", last.op if last else "", largest)


@dataclass(frozen=True)
class Peak:
    """The fullest moment."""

    bytes: int
    parts: dict[Part, int]
    """Part -> bytes alive then; they make the whole."""
    phase: str
    op: str
    """The operation whose result made it so."""
    largest: tuple[Block, ...]
    """The largest blocks alive then."""


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages on the meta device while it is entered, and answers for values it can know."""

    def __init__(self, target: Target) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.target, self.ledger, self.phase = target, Ledger(), "before the step"
        self._live: dict[int, Block] = {}
        self._refs: dict[int, weakref.ref[Any]] = {}
        self._owed: tuple[Block, int] | None = None
        self._operations = 0

    # --- what is there before ------------------------------------------------------------------------------------

    def hold(self, tensors: Iterator[Tensor] | list[Tensor], part: Part) -> None:
        """Those tensors are on the device already."""
        for tensor in tensors:
            if tensor.device.type == "meta":
                self._born(tensor, part, "held")

    def rename(self, tensors: list[Tensor], part: Part) -> None:
        """Those tensors' blocks belong to that part, from their birth on."""
        for tensor in tensors:
            block = self._live.get(tensor.untyped_storage()._cdata) if tensor.device.type == "meta" else None
            if block is not None:
                block.part = part

    def blocks_of(self, tensors: list[Tensor]) -> tuple[int, ...]:
        """Those tensors' blocks, one each."""
        return tuple(self._live[one.untyped_storage()._cdata].number for one in tensors if one.device.type == "meta")

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """What is born inside is of that phase."""
        before, self.phase = self.phase, phase
        try:
            yield
        finally:
            self.phase = before

    # --- every operation -----------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation, notes what it made, and what is known of its values."""
        kwargs, name = kwargs or {}, func.name()
        self._operations += 1
        if self._operations > MOST_OPERATIONS:
            raise CannotRun(f"the step has more than {MOST_OPERATIONS:,} operations")
        if name == "aten::_local_scalar_dense":
            return self._scalar(func, args[0])
        if name in ("aten::index.Tensor", "aten::index_put_", "aten::index_put", "aten::_unsafe_index.Tensor"):
            args = known.indices(args)
        back = self._leaving(func, name, args, kwargs)
        if back is not None:
            return back
        value = known.compute(func, args, kwargs)
        try:
            result = (
                _grouped(func, args, kwargs) if name == "aten::_grouped_mm" else remembered.call(func, args, kwargs)
            )
        except NotImplementedError:
            if value is None:
                raise known.refuse(func, self._where) from None
            result = tree_map(_without_data, value)
        self._settle()
        hidden = self._hidden(name, args)
        if self.target.device == "cuda":  # whose kernels are handed their results
            self._note(name, args, result, value)
            self.ledger.events += hidden
        else:  # the CPU converts operands first
            self.ledger.events += hidden[:1]
            self._note(name, args, result, value)
            self.ledger.events += hidden[1:]
        return result

    def _scalar(self, func: Any, tensor: Tensor) -> Any:
        value = known.value_of(tensor)
        if value is None:
            raise known.refuse(func, self._where)
        return value.item()

    def _leaving(self, func: Any, name: str, args: Any, kwargs: Any) -> Tensor | None:
        """A copy from the device to the host: its value, where it is known."""
        device = kwargs.get("device")
        if name != "aten::_to_copy" or device is None or torch.device(device).type == "meta":
            return None
        source = args[0]
        if source.device.type != "meta":
            return None
        value = known.value_of(source)
        if value is None:
            raise known.refuse(func, self._where)
        dtype: torch.dtype = kwargs.get("dtype") or value.dtype
        return value.detach().clone().to(dtype)

    def _hidden(self, name: str, args: Any) -> list[Event]:
        """Birth and death of what the operation holds while it runs, if anything."""
        asked = hidden_bytes(self.target, name, args)
        if not asked:
            return []
        block = self._block(asked, "workspaces of kernels", name)
        return [Event(block.number, block.size), Event(block.number, 0)]

    def _where(self) -> str:
        frames = [
            f for f in traceback.extract_stack() if "/torch/" not in f.filename and "wirecheck/vram" not in f.filename
        ]
        return f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""

    # --- births and deaths ---------------------------------------------------------------------------------------

    def _note(self, name: str, args: Any, result: Any, value: Any) -> None:
        made = known.tensors_in(result)
        values = known.tensors_in(value)
        for n, tensor in enumerate(made):
            if tensor.device.type != "meta":
                continue
            known.attach(tensor, values[n] if n < len(values) else None)
            if tensor.untyped_storage()._cdata not in self._live:
                self._born(tensor, self._part(args, tensor), name, reuses=self._accumulates(name, args, tensor))

    def _accumulates(self, name: str, args: Any, tensor: Tensor) -> Block | None:
        """The operand whose place the result takes: autograd adds up gradients in place, but not under a mode.

        So it does for what was indexed, whose gradients are put into zeros (`index_backward`).
        """
        if torch.is_grad_enabled() or torch._C._current_graph_task_id() == -1:
            return None
        if name not in ("aten::add.Tensor", "aten::index_put"):
            return None
        operands = args[:2] if name == "aten::add.Tensor" else args[:1]
        same = [a for a in operands if isinstance(a, Tensor) and a.shape == tensor.shape and a.dtype is tensor.dtype]
        return self._live.get(same[0].untyped_storage()._cdata) if len(same) == len(operands) else None

    def _part(self, args: Any, tensor: Tensor) -> Part:
        """The part a new block belongs to; a subclass knows the models."""
        del args, tensor
        return "activations" if torch._C._current_graph_task_id() == -1 else "gradients"

    def _stage(self, part: Part) -> str:
        """What the step is doing while a block of `part` is born; a subclass knows the models."""
        del part
        return "forward" if torch._C._current_graph_task_id() == -1 else "backward"

    def _born(self, tensor: Tensor, part: Part, op: str, *, reuses: Block | None = None) -> None:
        storage = tensor.untyped_storage()
        key, asked = storage._cdata, storage.nbytes()
        if key in self._live or not asked:
            return
        block = self._block(asked, part, op)
        if reuses is None:
            self.ledger.events.append(Event(block.number, block.size))
        else:
            self._owed = (block, reuses.number)
        self._live[key] = block
        self._refs[key] = weakref.ref(storage, lambda _: self._died(key))

    def _block(self, asked: int, part: Part, op: str) -> Block:
        rounding = self.target.rounding
        size = -(-asked // rounding) * rounding
        block = Block(len(self.ledger.blocks), size, part, op, self.phase, asked, self._stage(part))
        self.ledger.blocks.append(block)
        return block

    def _died(self, key: int) -> None:
        block = self._live.pop(key)
        del self._refs[key]
        if self._owed is not None and self._owed[0] is block:
            self._owed = None
            return
        self.ledger.events.append(Event(block.number, 0))
        if self._owed is not None and self._owed[1] == block.number:
            self._settle()  # the sum takes the place that has just become free

    def _settle(self) -> None:
        """A sum whose operand lives on has a block of its own after all."""
        if self._owed is not None:
            block, _ = self._owed
            self._owed = None
            self.ledger.events.append(Event(block.number, block.size))


def _grouped(func: Any, args: Any, kwargs: Any) -> Tensor:
    """The grouped product of experts, whose shapes torch works out without data for bfloat16 alone."""
    narrow = [a.bfloat16() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
    made: Tensor = func(*narrow, **kwargs)
    return torch.empty_strided(made.shape, made.stride(), dtype=args[0].dtype, device=made.device)


def _without_data(one: Any) -> Any:
    return torch.empty_like(one, device="meta") if isinstance(one, Tensor) else one


@contextmanager
def tracing(tracer: Tracer) -> Iterator[Tracer]:
    """The tracer entered, functions running the target's kernels; what still lives afterwards stays alive."""
    with ExitStack() as stack:
        taken = stack.enter_context(kernels_of(tracer.target))
        stack.enter_context(fused(tracer.target))
        stack.enter_context(tracer)
        try:
            yield tracer
        finally:
            tracer._settle()
            tracer.ledger.kernels.update({str(name): count for name, count in taken.items()})
            tracer._refs.clear()
