"""What the probes of the wire share: the ground they stand on, the models as a wire is given them, the wire made.

Used by every probe of the wire: signatures stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, PairBench
from wirecheck.schema import Evidence, Level, Scalar

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from wirecheck.wires.contract import Factory, Settings, Wire, WiredModel


@dataclass(frozen=True)
class Ground:
    """What the checks stand on: the rung, and the words for it."""

    level: Level
    models: str
    """Who ran: `twins` or `real weights`."""
    source: str

    def saw(self, observed: Scalar, expected: Scalar = None, *, of: str = "") -> Evidence:
        """One observation made on this ground."""
        return Evidence(level=self.level, source=self.source + of, observed=observed, expected=expected)


def on_twins(bench: PairBench) -> Ground:
    """The wire between the tiny random twins, in float32."""
    return Ground(Level.SIMULATED, "twins", f"{bench.train.resident} step on the twins, seed {bench.seed}")


def on_weights(bench: PairBench) -> Ground:
    """The wire between the real weights, in the run's dtype."""
    source = f"{bench.train.resident} step on the real weights in {bench.train.dtype}, wire seed {bench.seed}"
    return Ground(Level.EXECUTED, "real weights", source)


def wired(bench: PairBench, ground: Ground) -> tuple[WiredModel, WiredModel]:
    """Both models as a factory is given them; the real weights where the ground is `executed`, else the twins."""
    a, b = (_wired(one, ground) for one in (bench.a, bench.b))
    return a, b


def _wired(one: ModelBench, ground: Ground) -> WiredModel:
    from wirecheck.wires.contract import WiredModel

    if ground.level.rank >= Level.EXECUTED.rank:
        model = one.weights
    else:
        model = one.twin.model
        _require_rows(one, _rows(model))
    hidden_size, num_layers = _sizes(one)
    return WiredModel(
        side=one.side,
        name=one.snapshot.ref.name,
        model=model,
        tokenizer=one.tokenizer,
        num_layers=num_layers,
        hidden_size=hidden_size,
    )


def _require_rows(one: ModelBench, num_rows: int) -> None:
    """CannotRun where the twin has no row for a token that the model has one for: a text may not run on it."""
    needed = min(_rows(one.skeleton), len(one.tokenizer))
    if num_rows < needed:
        raise CannotRun(f"the twin of {one.snapshot.ref.name} has rows for {num_rows} of {needed} tokens")


def _rows(model: PreTrainedModel) -> int:
    return int(next(model.get_input_embeddings().parameters()).shape[0])


def hidden_size(one: ModelBench) -> int:
    """Width of the real model, whichever model runs."""
    return _sizes(one)[0]


def _sizes(one: ModelBench) -> tuple[int, int]:
    """Width and layers of the real model, whichever model runs."""
    config = one.skeleton.config.get_text_config()
    table = next(one.skeleton.get_input_embeddings().parameters())
    return int(table.shape[-1]), int(getattr(config, "num_hidden_layers", 0))


@contextmanager
def lent(models: tuple[WiredModel, WiredModel]) -> Iterator[None]:
    """The models as `from_pretrained` leaves them, every parameter asking for a gradient; then frozen and clean."""
    from wirecheck import zoo

    for one in models:
        one.model.requires_grad_(requires_grad=True)
    try:
        yield
    finally:
        for one in models:
            one.model.requires_grad_(requires_grad=False)
            one.model.zero_grad(set_to_none=True)
            one.model.train(mode=False)
            if any(getattr(module, "gradient_checkpointing", False) for module in one.model.modules()):
                with zoo.quiet():  # a deprecated name, the only one that all releases of transformers 5 have
                    one.model.gradient_checkpointing_disable()  # type: ignore[no-untyped-call]


def in_dtype(
    models: tuple[WiredModel, WiredModel], dtype: str, benches: tuple[ModelBench, ModelBench] | None = None
) -> tuple[WiredModel, WiredModel]:
    """Copies of the models as `from_pretrained(dtype=…)` makes them, with the same weights: for twins only.

    The class is built anew in that dtype, so that what it keeps in float32 (tables of angles, a router) stays so.
    `benches`: those whose twins the models are, as yet untouched, and `dtype` the run's: they may have such copies.
    """
    makes = [partial(_copy, one.model, dtype) for one in models]
    made = [make() for make in makes] if benches is None else [b.cast(m) for b, m in zip(benches, makes, strict=True)]
    a, b = (replace(one, model=model) for one, model in zip(models, made, strict=True))
    return a, b


def copies(models: tuple[WiredModel, WiredModel]) -> tuple[WiredModel, WiredModel]:
    """The same models once more, for another wire: hooks and parts that the first one adds are not there. For twins."""
    a, b = (replace(one, model=deepcopy(one.model)) for one in models)
    return a, b


def _copy(model: Any, dtype: str) -> PreTrainedModel:
    import torch

    from wirecheck import zoo

    with zoo.quiet(), torch.random.fork_rng(devices=[]):
        made: PreTrainedModel = type(model)._from_config(deepcopy(model.config), dtype=getattr(torch, dtype))
    kept = {*(model._keep_in_fp32_modules_strict or ()), *((dtype == "float16" and model._keep_in_fp32_modules) or ())}
    for name, p in made.named_parameters():
        if kept & set(name.split(".")):
            p.data = p.data.float()
    made.load_state_dict(model.state_dict())
    made.train(mode=False)
    return made


def settings(bench: PairBench) -> Settings:
    """What the factory is told."""
    from wirecheck.wires.contract import Settings

    return Settings(wire=bench.wire, train=bench.train, seed=bench.seed)


def factory(bench: PairBench) -> Factory:
    """The factory of the wire named. CannotRun: there is none of that name."""
    from wirecheck.wires import WIRES

    if bench.wire.is_own:
        from wirecheck.wires.own import load_factory

        return load_factory(bench.wire.name)
    if bench.wire.name not in WIRES:
        raise CannotRun(f"wirecheck ships no wire named {bench.wire.name}; it ships {', '.join(WIRES)}")
    return WIRES[bench.wire.name].factory


def make(bench: PairBench, models: tuple[WiredModel, WiredModel], *, seed: int | None = None) -> Wire:
    """The wire between `models`; another start with another `seed`. Raises StepFailed, MemoryError, CannotRun.

    A factory that draws from torch's own generators draws of that seed too; they are left as they were.
    """
    from wirecheck.wires.failure import part
    from wirecheck.wires.watch import seeded

    asked = settings(bench) if seed is None else replace(settings(bench), seed=seed)
    with seeded(models, asked.seed), part("factory"):
        return factory(bench)(*models, asked)


# --- words and figures -------------------------------------------------------------------------------------------


def some(names: Sequence[str], most: int = 5) -> str:
    """The first of those names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def figure(value: float) -> float | str:
    """Four significant digits: what stays the same from run to run. A record holds finite numbers only."""
    return float(f"{value:.4g}") if math.isfinite(value) else str(value)


def shape(sizes: Sequence[int]) -> str:
    """`4 x 48`."""
    return " x ".join(str(size) for size in sizes)
