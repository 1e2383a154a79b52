"""The probe of `inputs_embeds` in use, run on a tiny class of the test's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from transformers import GPT2Config, GPT2LMHeadModel

from tests.benches import Output, run
from tests.test_probe_embeds import tiny
from wirecheck.probe import ModelBench
from wirecheck.probes.embeds_use import EMBEDS_USE
from wirecheck.schema import Policy, TrainSpec, WireSpec

OWN = {"wire": WireSpec(name="my.package:wire")}
NARROW = {"vocab_size": 200, "initializer_range": 0.2}


def used(model: Any, *, asked: bool = False, **changed: Any) -> Output:
    """What the probe says of that class; `asked`: the step recomputes."""
    fields: dict[str, Any] = {"wire": WireSpec(), "policy": Policy(), "seed": 0, "side": "a", "snapshot": None}
    bench = ModelBench(**(fields | {"train": TrainSpec(grad_checkpointing=asked)} | changed))
    bench.__dict__["twin"] = SimpleNamespace(model=model, kept=(), changed=())
    return run(EMBEDS_USE, bench)


def gpt2(kind: type[Any] = GPT2LMHeadModel, **changed: Any) -> Any:
    """A tiny GPT-2, which numbers its positions by a table."""
    return tiny(kind, GPT2Config(n_embd=32, n_head=4, n_layer=2, n_positions=64, **NARROW, **changed))
