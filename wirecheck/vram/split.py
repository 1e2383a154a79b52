"""A model split over GPUs by a device map, as accelerate runs it, in a trace: every block is on one of the GPUs.

accelerate hooks each module of the map: what it is called with is copied to its GPU, and what the whole model returns
is copied back to where its inputs were (`AlignDevicesHook`, `attach_align_device_hook_on_blocks`). An operation runs
where its operands are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from wirecheck import zoo_device_map
from wirecheck.errors import CannotRun
from wirecheck.vram.even import layers_of
from wirecheck.vram.known import tensors_in
from wirecheck.vram.live import Ledger, Tracer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from wirecheck.wires.contract import SideName
_DEVICE: Any = torch.Tensor.device.__get__


class CannotPlace(CannotRun):
    """The library does not split those models over those GPUs, and why."""


DeviceMap = Mapping[str, int]
"""Module, or parameter, name -> GPU: those below it are there too."""


@dataclass(frozen=True)
class Spread:
    """GPUs of one kind that each model is to be split over."""

    count: int
    room: int
    """Bytes free on each before the first model is loaded."""
    layers: tuple[tuple[int, ...], ...] = ()
    """Model by model, how many layers go on each GPU; by default as many as `device_map="auto"` puts there."""


class PlacedTracer(Tracer):  # type: ignore[no-untyped-call]
    """Knows on which GPU each block is."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._places: dict[int, int] = {}
        self._inside: list[int] = []
        self._forced: int | None = None
        self._last = 0
        self._cut = ""

    def place(self, tensor: Tensor) -> int:
        """The GPU that tensor is on."""
        block = self._live.get(tensor.untyped_storage()._cdata)
        return 0 if block is None else self._places.get(block.number, 0)

    def put(self, tensor: Tensor, gpu: int) -> None:
        """That tensor has been on that GPU from its birth on."""
        block = self._live.get(tensor.untyped_storage()._cdata)
        if block is not None:
            self._places[block.number] = gpu

    def may_cut(self, name: str) -> None:
        """The class of that name does not say what must stay on one GPU."""
        self._cut = name

    @contextmanager
    def within(self, gpu: int) -> Iterator[None]:
        """A module of that GPU is running."""
        self._inside.append(gpu)
        try:
            yield
        finally:
            self._inside.pop()

    @contextmanager
    def forced(self, gpu: int) -> Iterator[None]:
        """What is made inside is on that GPU, wherever its operands are: a copy."""
        before, self._forced = self._forced, gpu
        try:
            yield
        finally:
            self._forced = before

    def sent(self, given: Any, gpu: int, skip: Collection[str] = ()) -> Any:
        """accelerate's `send_to_device`: the tensors in it copied to that GPU, where they are on another."""
        if isinstance(given, Tensor):
            if given.device.type != "meta" or self.place(given) == gpu:
                return given
            return _Copy.apply(given, self, gpu)  # type: ignore[no-untyped-call]
        if isinstance(given, tuple | list):
            made = [self.sent(one, gpu, skip) for one in given]
            return type(given)(*made) if hasattr(given, "_fields") else type(given)(made)
        if isinstance(given, Mapping):
            kind: Any = type(given)
            return kind({key: one if key in skip else self.sent(one, gpu, skip) for key, one in given.items()})
        return given

    def by_gpu(self, count: int) -> tuple[Ledger, ...]:
        """What happened on each GPU."""
        ledgers = tuple(Ledger(self.ledger.blocks, [], self.ledger.kernels) for _ in range(count))
        for event in self.ledger.events:
            ledgers[self._places.get(event.block, 0)].events.append(event)
        return ledgers

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Notes where the operation runs."""
        gpu, first = self._runs_on(func, args, kwargs), len(self.ledger.blocks)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if self._forced is not None:
            for block in self.ledger.blocks[first:]:
                block.op = f"copy to GPU {gpu}"
        if gpu:
            self._places.update(dict.fromkeys(range(first, len(self.ledger.blocks)), gpu))
        self._last = gpu
        return result

    def _runs_on(self, func: Any, args: Any, kwargs: Any) -> int:
        if self._forced is not None:
            return self._forced
        places = set()
        for one in tensors_in((args, kwargs)):
            block = self._live.get(one.untyped_storage()._cdata)
            if block is not None:
                places.add(self._places.get(block.number, 0))
        backward = torch._C._current_graph_task_id() != -1
        if not places:
            asked = kwargs.get("device") if kwargs else None
            if isinstance(asked, torch.device) and asked.type == "meta" and asked.index is not None:
                return asked.index
            return self._inside[-1] if self._inside else self._last if backward else 0
        if len(places) > 1 and self._inside and not backward:
            names = " and ".join(f"GPU {gpu}" for gpu in sorted(places))
            why = f"{func.name()} is given tensors on {names}{self._where()}, which torch refuses"
            if self._cut:
                raise CannotPlace(f"{self._cut} names no module to be kept whole (_no_split_modules): {why}")
            raise CannotRun(why)
        return min(places)


class Numbered(TorchFunctionMode):
    """A tensor says which GPU it is on (`meta:1`), and goes where it is told to: code moves tensors by itself too."""

    def __init__(self, tracer: PlacedTracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answers for `tensor.device` and `tensor.to`; all else is as it was."""
        if func == _DEVICE:
            found = func(*args)
            return torch.device("meta", self.tracer.place(args[0])) if found.type == "meta" else found
        if func is not torch.Tensor.to or not _is_meta(args[0]):
            return func(*args, **(kwargs or {}))
        target = kwargs.get("other") if kwargs and "other" in kwargs else args[1] if len(args) > 1 else None
        if isinstance(target, Tensor):
            if not _is_meta(target):
                return func(*args, **(kwargs or {}))
            gpu, dtype = self.tracer.place(target), target.dtype
        else:
            device, dtype, *_ = torch._C._nn._parse_to(*args[1:], **_without_copy(kwargs))
            if device is None or device.type != "meta":
                return func(*args, **(kwargs or {}))
            gpu = self.tracer.place(args[0]) if device.index is None else device.index
        cast = args[0] if dtype is None else args[0].to(dtype)
        copied = bool(kwargs and kwargs.get("copy")) and cast is args[0]
        return cast.clone() if copied and self.tracer.place(cast) == gpu else self.tracer.sent(cast, gpu)


def _is_meta(tensor: Tensor) -> bool:
    return tensor.device.type == "meta"


def _without_copy(kwargs: Any) -> dict[str, Any]:
    return {key: value for key, value in (kwargs or {}).items() if key != "copy"}


class _Copy(torch.autograd.Function):
    """`tensor.to(gpu)`, and the gradient's way back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, tracer: PlacedTracer, gpu: int) -> Tensor:
        ctx.tracer, ctx.home = tracer, tracer.place(tensor)
        with tracer.forced(gpu):
            return tensor.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        with ctx.tracer.forced(ctx.home):
            return gradient.clone(), None, None


def place_of(name: str, places: DeviceMap) -> int | None:
    """The GPU of a module or parameter of that name; None where only parts of it are placed."""
    while name not in places:
        if not name:
            return None
        name = name.rpartition(".")[0]
    return places[name]


def device_maps(models: Mapping[SideName, PreTrainedModel], over: Spread, *, apart: bool) -> dict[SideName, DeviceMap]:
    """Each model's map, the second's made when the first is loaded; `apart`: when the first is gone again.

    What modules on several GPUs share is then there once on each. Raises CannotPlace.
    """
    room = dict.fromkeys(range(over.count), over.room)
    maps: dict[SideName, DeviceMap] = {}
    for n, (side, model) in enumerate(models.items()):
        try:
            found = zoo_device_map.device_map(model, room)
        except CannotRun as missing:
            raise CannotPlace(f"model {side}: {missing.reason}") from missing
        maps[side] = _with_layers(model, found, over.layers[n] if over.layers else ())
        untie(model, maps[side])
        for name, tensor in () if apart else (*model.named_parameters(), *model.named_buffers()):
            room[place_of(name, maps[side]) or 0] -= tensor.nbytes
    return maps


def _with_layers(model: nn.Module, found: DeviceMap, held: tuple[int, ...]) -> DeviceMap:
    """The map with an entry for each layer: where it was, or so many on each GPU."""
    whole = set(getattr(model, "_no_split_modules", None) or ())
    names = [name for name, module in model.named_modules() if type(module).__name__ in whole]
    places = {name: gpu for name in names if (gpu := place_of(name, found)) is not None}
    made = {**found, **places}
    layers = layers_of(made)
    gpus = [gpu for gpu, count in enumerate(held) for _ in range(count)]
    if gpus and len(gpus) != len(layers):
        raise CannotPlace(f"{type(model).__name__} has {len(layers)} layers, not {len(gpus)}")
    return {**made, **dict(zip(layers, gpus, strict=False))}


def untie(model: nn.Module, places: DeviceMap) -> None:
    """A weight that modules on several GPUs share is there once on each, as after accelerate's dispatch."""
    seen: dict[tuple[int, int], nn.Parameter] = {}
    taken: set[int] = set()
    for name, weight in list(model.named_parameters(remove_duplicate=False)):
        gpu = place_of(name, places) or 0
        if (id(weight), gpu) not in seen:
            twice = id(weight) in taken
            seen[id(weight), gpu] = nn.Parameter(torch.empty_like(weight), requires_grad=False) if twice else weight
            taken.add(id(weight))
        parent, _, last = name.rpartition(".")
        model.get_submodule(parent)._parameters[last] = seen[id(weight), gpu]


def spread(model: nn.Module, places: DeviceMap, tracer: PlacedTracer) -> None:
    """The model's weights, which the tracer holds, on their GPUs, and its modules calling as accelerate's hooks do."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        tracer.put(tensor, place_of(name, places) or 0)
    if len(set(places.values())) == 1:
        return  # to one GPU nothing is dispatched: there are no hooks
    if not getattr(model, "_no_split_modules", None):
        tracer.may_cut(type(model).__name__)
    skip = set(getattr(model, "_skip_keys_device_placement", None) or ())
    for name, module in model.named_modules():
        gpu = min(places.values()) if not name else place_of(name, places)
        if gpu is not None and (not name or name in places or module.state_dict(keep_vars=True)):
            module.forward = _aligned(tracer, module.forward, gpu, skip, returns=not name)


def _home(tracer: PlacedTracer, given: Any) -> int | None:
    """accelerate's `find_device`: the GPU of the first tensor."""
    return next((tracer.place(one) for one in tree_leaves(given) if isinstance(one, Tensor)), None)


def _aligned(
    tracer: PlacedTracer, forward: Callable[..., Any], gpu: int, skip: Collection[str], *, returns: bool
) -> Callable[..., Any]:
    @wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        home = _home(tracer, (args, kwargs)) if returns else None
        args, kwargs = tracer.sent(args, gpu), tracer.sent(kwargs, gpu, skip)
        with tracer.within(gpu):
            made = forward(*args, **kwargs)
        return made if home is None else tracer.sent(made, home, skip)

    return run
