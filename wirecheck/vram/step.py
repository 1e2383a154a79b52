"""The very step, traced: both frozen models at full shape, the wire, its losses and its optimizer, all without data.

B batch   M soft tokens   S positions of a row: M + context + answer   V vocabulary

Two steps are run, since the optimizer's states are there from the second on; the peak is that of both.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from wirecheck import zoo
from wirecheck.errors import CannotRun
from wirecheck.limits import one_line
from wirecheck.schema import TrainSpec, WireSpec
from wirecheck.vram.allocator import replay
from wirecheck.vram.attention import Target
from wirecheck.vram.known import tensors_in
from wirecheck.vram.live import Ledger, Peak, Tracer, tracing
from wirecheck.vram.quantized import quantize, scheme_of
from wirecheck.vram.split import CannotPlace, DeviceMap, Numbered, PlacedTracer, Spread, device_maps, spread
from wirecheck.vram.thin import make_thin
from wirecheck.vram.told import Marks, in_turns, twice
from wirecheck.wires import WIRES
from wirecheck.wires.contract import Batch, Settings, SideName, Wire, WiredModel
from wirecheck.wires.full_step import full_batch, optimizer, train_once
from wirecheck.wires.receiver import ANCHOR
from wirecheck.wires.traceable import traceable

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

STEPS = 2
MOST_IDS = 1 << 23
"""Ids and bytes of a batch's texts, which are real numbers on the host while a step is traced."""
BYTES_PER_TOKEN = 4
"""Of English text, in the families' tokenizers: how long a teacher's prompt is taken to be."""
Owner = Literal["a", "b", "wire"]


class CannotTrace(CannotRun):
    """The step cannot be run without data, and why: the operation, or what the class raised."""


class SizedTokenizer:
    """Stands for a tokenizer where only lengths count: anchor and answers come out at the lengths asked for."""

    bos_token_id = None
    eos_token_id = 0

    def __init__(self, rows: int, context: int) -> None:
        """`rows`: tokens there are; `context`: tokens of the anchor, one at least."""
        self.rows, self.context = rows, max(context, 1)

    def __len__(self) -> int:
        return self.rows

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Zeros: `context` for an anchor, one for each word of an answer, one for four bytes of other text."""
        del add_special_tokens
        if text.startswith(" "):
            return [0] * len(text.split())
        count, rest = (self.context, text.removesuffix(ANCHOR)) if text.endswith(ANCHOR) else (0, text)
        return [0] * (count + (-(-len(rest.encode()) // BYTES_PER_TOKEN)))


class _PairTracer(Tracer):  # type: ignore[no-untyped-call]
    """Knows whose each block is: a model's, or the wire's."""

    def __init__(self, target: Target, vocabulary: Mapping[str, int]) -> None:
        super().__init__(target)
        self.vocabulary, self.inside = vocabulary, cast("Owner | None", None)
        self._owners: dict[int, Owner] = {}
        self.updating = False

    def own(self, tensors: list[Tensor], owner: Owner, part: str) -> tuple[int, ...]:
        """Those tensors are on the device before the step: their blocks."""
        first = len(self.ledger.blocks)
        self.hold(tensors, part)
        blocks = tuple(range(first, len(self.ledger.blocks)))
        self._owners.update(dict.fromkeys(blocks, owner))
        return blocks

    def _part(self, args: Any, tensor: Tensor) -> str:
        backward = torch._C._current_graph_task_id() != -1
        owner = self._owner(args, backward=backward)
        self._owners[len(self.ledger.blocks)] = owner
        if owner == "wire":
            return "gradients of the wire" if backward else "activations of the wire"
        if self.vocabulary[owner] in tensor.shape[-1:]:
            return f"logits and loss {owner}"
        square = tensor.dim() == 4 and tensor.shape[1] == 1 and 1 < tensor.shape[-2] <= tensor.shape[-1]  # noqa: PLR2004
        if square and not backward:
            return f"masks {owner}"
        if not backward:
            return f"activations {owner}"
        return f"recomputed {owner}" if torch.is_grad_enabled() else f"gradients {owner}"

    def _stage(self, part: str) -> str:
        if self.updating:
            return "update"
        whose = part.rpartition(" ")[2]
        if whose not in ("a", "b", "wire"):
            return ""
        if torch._C._current_graph_task_id() != -1:
            return f"backward {whose}"
        if self.inside is not None:
            return f"forward {self.inside}"
        return f"losses {whose}" if part.startswith("logits") else "forward wire"

    def _owner(self, args: Any, *, backward: bool) -> Owner:
        """In a model's forward the model; else whose the operands are: in backward the wire's go first."""
        if self.inside is not None and not backward:
            return self.inside
        found = set()
        for one in tensors_in(args):
            block = self._live.get(one.untyped_storage()._cdata)
            if block is not None:
                found.add(self._owners.get(block.number, "wire"))
        order: tuple[Owner, ...] = ("wire", "a", "b") if backward else ("a", "b", "wire")
        return next((owner for owner in order if owner in found), "wire")


class _SplitTracer(PlacedTracer, _PairTracer):  # type: ignore[no-untyped-call]
    """Knows whose each block is, and which GPU it is on."""


class _Hollow(TorchFunctionMode):
    """New tensors are on the meta device, but for those made of numbers written down: their values are kept."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """As `torch.device("meta")` does, which drops the values of `torch.tensor([...])` too."""
        kwargs = kwargs or {}
        if func in _device_constructors() and func is not torch.tensor and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


@dataclass(frozen=True)
class Traced:
    """Two steps as they were traced."""

    ledger: Ledger
    peak: Peak
    trained: int
    """Trained scalars."""
    maps: Mapping[SideName, DeviceMap] = field(default_factory=dict)
    """Where the models are split: which GPU each part of them is on."""
    gpus: tuple[Traced, ...] = ()
    """Where the models are split: what happened on each GPU."""

    @cached_property
    def reserved_bytes(self) -> int:
        """What torch's allocator would hold at most, on a device with room enough."""
        return replay(self.ledger.events).reserved_bytes


@dataclass(frozen=True)
class Extent:
    """How much of the step is traced: all of it, unless many traces of one step are wanted soon."""

    thin: bool = False
    """Of layers alike in kind only the first are there: what a layer allocates is seen, not how often."""
    warm: bool = False
    """The second step alone is run, the optimizer's states being there before it. Of a whole model the first step is
    told from it (`twice`)."""


WHOLE = Extent()
Built = dict[tuple[SideName, bool], WiredModel]
"""Models built, whole or thin, to be used again for another size of the same step."""


def trace_step(  # noqa: PLR0917  # what a step is of
    configs: Mapping[SideName, PretrainedConfig],
    wire: WireSpec,
    train: TrainSpec,
    target: Target,
    seed: int = 0,
    extent: Extent = WHOLE,
    *,
    over: Spread | None = None,
    built: Built | None = None,
) -> Traced:
    """The step of one model or of two. Raises CannotTrace.

    With one model the wire has one adapter. `resident` sequential: a model's weights are on the device from its forward
    on until the other model's begins. `over`: each model is split over several GPUs, the wire is on the first;
    CannotPlace where the library does not split them so. `built`: models of an earlier trace of the same step.
    """
    if not traceable(wire):
        raise CannotTrace(f"the wire {wire.name} is not one that can be traced")
    if train.batch * max(train.sequence_length(wire), wire.max_bytes) > MOST_IDS:
        raise CannotTrace(
            f"{train.batch:,} rows of {train.sequence_length(wire):,} positions are more than it can hold"
        )
    try:
        with zoo.quiet(), _uncollected():
            return _trace(configs, Settings(wire=wire, train=train, seed=seed), target, extent, over, built)
    except (CannotTrace, CannotPlace):
        raise
    except CannotRun as missing:
        raise CannotTrace(missing.reason) from missing
    except Exception as error:  # a class may raise anything on tensors without data
        raise CannotTrace(f"{type(error).__name__}: {one_line(error)}") from error


def weight_bytes(
    configs: Mapping[SideName, PretrainedConfig], train: TrainSpec, target: Target, built: Built
) -> dict[SideName, int]:
    """What each model's weights take on the device, without a trace. Raises CannotTrace."""
    made: dict[SideName, int] = {}
    for side, config in configs.items():
        try:
            with zoo.quiet():
                model = _model(side, config, train, WHOLE, built).model
        except CannotRun as missing:
            raise CannotTrace(missing.reason) from missing
        except Exception as error:  # a class may raise anything
            raise CannotTrace(f"{type(error).__name__}: {one_line(error)}") from error
        storages = {
            t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers())
        }
        made[side] = sum(-(-size // target.rounding) * target.rounding for size in storages.values())
    return made


@contextmanager
def _uncollected() -> Iterator[None]:
    """No collection of cycles, which in a run comes at no moment that could be told: what is in one lives on."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _trace(  # noqa: PLR0917  # what a step is of
    configs: Mapping[SideName, PretrainedConfig],
    settings: Settings,
    target: Target,
    extent: Extent,
    over: Spread | None,
    built: Built | None,
) -> Traced:
    spec, train = settings.wire, settings.train
    models = {side: _model(side, config, train, extent, built) for side, config in configs.items()}
    first = models["a"] if "a" in models else models["b"]
    other = models.get("b", first)
    if other is first and spec.name == "resampler":
        raise CannotTrace("a resampler reads one model for the other, and there is one model only")
    apart = train.resident == "sequential"
    maps = {} if over is None else device_maps({side: one.model for side, one in models.items()}, over, apart=apart)
    with tracing(Tracer(target)), _Hollow():  # a factory may run a model to learn its scale
        wire = WIRES[spec.name].factory(first, other, settings)
    rows = cast("dict[str, int]", {side: _table(one.model).shape[0] for side, one in models.items()})
    tracer = (_SplitTracer if over else _PairTracer)(target, rows)
    held: dict[SideName, tuple[int, ...]] = {}
    turns: list[tuple[int, SideName]] = []
    for side, one in models.items():
        tensors = [*one.model.parameters(), *one.model.buffers()]
        held[side] = tracer.own(tensors, side, f"weights {side}")
        if isinstance(tracer, _SplitTracer):
            spread(one.model, maps[side], tracer)
    module = wire.module
    tracer.own([*module.parameters()], "wire", "trained parameters")
    tracer.own([*module.buffers()], "wire", "activations of the wire")
    numbered = Numbered(tracer) if isinstance(tracer, _SplitTracer) else nullcontext()
    with numbered, _noted(tracer, models, turns):
        marks = _run(tracer, wire, full_batch(spec, train), train, warm=extent.warm)
    if marks is not None and not extent.thin:
        tracer.ledger, turns = twice(tracer.ledger, marks, turns)
    if apart:
        tracer.ledger = in_turns(tracer.ledger, held, turns)
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    gpus = tracer.by_gpu(over.count) if isinstance(tracer, _SplitTracer) and over else ()
    each = tuple(Traced(one, one.peak(), trained if n == 0 else 0) for n, one in enumerate(gpus))
    return Traced(tracer.ledger, tracer.ledger.peak(), trained, maps, each)


def _model(
    side: SideName, config: PretrainedConfig, train: TrainSpec, extent: Extent, built: Built | None
) -> WiredModel:
    known = None if built is None else built.get((side, extent.thin))
    if known is not None:
        return replace(known, tokenizer=cast("Any", SizedTokenizer(_table(known.model).shape[0], train.context)))
    made = _build(side, config, train, thin=extent.thin)
    if built is not None:
        built[side, extent.thin] = made
    return made


def _build(side: SideName, config: PretrainedConfig, train: TrainSpec, *, thin: bool) -> WiredModel:
    model = zoo.still(zoo.build(deepcopy(config) if thin else config, device="meta", dtype=getattr(torch, train.dtype)))
    if thin:
        make_thin(model)
    scheme = scheme_of(config, train)
    if scheme is not None:
        quantize(model, scheme)
    table = _table(model)
    text = zoo.text_config(model.config)
    return WiredModel(
        side=side,
        name=side,
        model=model,
        tokenizer=cast("Any", SizedTokenizer(table.shape[0], train.context)),
        num_layers=int(getattr(text, "num_hidden_layers", 0)),
        hidden_size=int(table.shape[1]),
    )


def _table(model: PreTrainedModel) -> Tensor:
    return next(model.get_input_embeddings().parameters())


def _run(tracer: _PairTracer, wire: Wire, batch: Batch, train: TrainSpec, *, warm: bool) -> Marks | None:
    """Both steps, or the second alone, with what the first is told from."""
    # On CUDA torch updates all tensors at once, which takes memory of its own; for tensors without data it would not.
    update = optimizer(wire, train, foreach=tracer.target.device == "cuda")
    trained = [p for p in wire.module.parameters() if p.requires_grad]
    update.register_step_pre_hook(lambda *_: setattr(tracer, "updating", True))
    update.register_step_post_hook(lambda *_: setattr(tracer, "updating", False))
    states: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    begun = [0]
    if warm:
        with tracing(Tracer(tracer.target)), _Hollow():
            for p in trained:
                p.grad = torch.zeros_like(p)
            update.step()
        states = tracer.own([x for state in update.state.values() for x in state.values()], "wire", "optimizer states")
        before = tracer.own(_gradients(trained), "wire", "gradients of the wire")
        update.register_step_pre_hook(lambda *_: begun.append(len(tracer.ledger.events)))
    held = len(tracer.ledger.events)
    with tracing(tracer):
        for step in range(STEPS - 1 if warm else 0, STEPS):
            with tracer.during(f"step {step + 1}"):
                train_once(wire, batch, update)
            tracer.rename(_gradients(trained), "gradients of the wire")
            made = [x for state in update.state.values() for x in state.values() if isinstance(x, Tensor)]
            tracer.rename(made, "optimizer states")
        after = tracer.blocks_of(_gradients(trained))
    return Marks(held, begun[-1], states, before, after) if warm else None


def _gradients(trained: list[nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in trained if p.grad is not None]


@contextmanager
def _noted(
    tracer: _PairTracer, models: Mapping[SideName, WiredModel], turns: list[tuple[int, SideName]]
) -> Iterator[None]:
    """Whose forward is running; when each began is written to `turns`."""

    def enter(side: SideName) -> Any:
        def note(_module: Any, _args: Any) -> None:
            tracer.inside = side
            turns.append((len(tracer.ledger.events), side))

        return note

    def leave(_module: Any, _args: Any, _output: Any) -> None:
        tracer.inside = None

    handles = [one.model.register_forward_pre_hook(enter(side)) for side, one in models.items()]
    handles += [one.model.register_forward_hook(leave) for one in models.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
