"""One way to put a tiny wire before a single check of its use, and wires that are broken in one place each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tests import rigs, tiny_wires
from tests.benches import Output
from tests.tiny_wires import TinyWire
from wirecheck.errors import CannotRun
from wirecheck.probe import PairBench, Yielded
from wirecheck.probes import wiring
from wirecheck.probes.wire_use_case import Case, Check
from wirecheck.schema import Fact, Finding
from wirecheck.wires.contract import Batch
from wirecheck.wires.steady import SteadyWire


@contextmanager
def case_of(kind: Callable[..., Any] = TinyWire, bench: PairBench | None = None) -> Iterator[Case]:
    """A wire of `kind` on the bench, in eval mode."""
    bench = bench or rigs.bench()
    ground = wiring.on_twins(bench)
    models = wiring.wired(bench, ground)
    others = wiring.copies(models)

    def make(models: Any, seed: int) -> SteadyWire:
        wire = kind(*models, replace(wiring.settings(bench), seed=seed))
        wire.module.eval()
        return SteadyWire(wire, models, bench.seed)

    with wiring.lent(models), wiring.lent(others):
        yield Case(bench, ground, make(models, 0), make_other=lambda: make(others, 1))


def ask(check: Check, kind: Callable[..., Any] = TinyWire, bench: PairBench | None = None) -> tuple[Output, str]:
    """What one check yields of that wire, and what it could not tell; empty where it told all."""
    yielded: list[Yielded] = []
    untold = ""
    with case_of(kind, bench) as case:
        try:
            yielded.extend(check(case))
        except CannotRun as missing:
            untold = missing.reason
    findings = tuple(item for item in yielded if isinstance(item, Finding))
    return Output(findings, {item.key: item for item in yielded if isinstance(item, Fact)}, ()), untold


def left_padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """ids_BN and mask_BN, padding on the left."""
    N = max(map(len, rows))
    ids_BN = torch.tensor([[0] * (N - len(row)) + row for row in rows])
    mask_BN = torch.tensor([[0] * (N - len(row)) + [1] * len(row) for row in rows])
    return ids_BN, mask_BN


class LeftPadded(TinyWire):
    """[padding][prefix][anchor][answer], masked; positions are not passed."""

    masks = True

    def sequence(self, side: str, batch: Batch, prefix_BMD: Tensor) -> dict[str, Tensor]:
        anchor, answers = self.anchor_ids(side), [self.answer_ids(side, answer) for answer in batch.answers]
        embed = self.models[side].model.get_input_embeddings()
        S = prefix_BMD.shape[1] + len(anchor) + max(map(len, answers))
        embeds, masks, labels = [], [], []
        for prefix_MD, answer in zip(prefix_BMD, answers, strict=True):
            text_ND = embed(torch.tensor([*anchor, *answer]))
            row_SD = torch.cat((prefix_MD.to(text_ND.dtype), text_ND))
            missing = S - len(row_SD)
            embeds.append(torch.cat((embed(torch.zeros(missing, dtype=torch.long)), row_SD)))
            masks.append([0] * missing + [1] * len(row_SD))
            labels.append([-100] * (S - len(answer)) + answer)
        inputs = {"inputs_embeds": torch.stack(embeds), "labels": torch.tensor(labels)}
        return inputs | ({"attention_mask": torch.tensor(masks)} if self.masks else {})


class Decoding(TinyWire):
    """With a greedy, cached loop of its own, from [prefix][anchor]."""

    def step(self, side: str, mask_BS: Tensor, **fed: Any) -> Any:
        """One cached forward."""
        return self.models[side].model(attention_mask=mask_BS, use_cache=True, **fed)

    def context(self, side: str, batch: Batch) -> Tensor:
        """embeds_BSD before the first new token."""
        prefix_BMD = self.prefix(batch)[side]
        anchor_BA = torch.tensor([self.anchor_ids(side)] * len(prefix_BMD))
        return torch.cat((prefix_BMD, self.models[side].model.get_input_embeddings()(anchor_BA)), dim=1)

    def generate(self, batch: Batch, max_new_tokens: int) -> dict[str, list[list[int]]]:
        """Greedy ids, row by row."""
        made = {}
        for side in self.models:
            fed: dict[str, Any] = {"inputs_embeds": self.context(side, batch)}
            mask_BS = torch.ones(fed["inputs_embeds"].shape[:2], dtype=torch.long)
            columns = []
            for _ in range(max_new_tokens):
                output = self.step(side, mask_BS, **fed)
                columns.append(output.logits[:, -1].argmax(dim=-1))
                fed = {"input_ids": columns[-1][:, None], "past_key_values": output.past_key_values}
                mask_BS = torch.cat((mask_BS, mask_BS.new_ones(len(mask_BS), 1)), dim=1)
            made[side] = torch.stack(columns, dim=1).tolist()
        return made


class KeysAndValues(TinyWire):
    """No soft tokens: the latent becomes keys and values of every layer, handed as a cache beside [anchor][answer]."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(args[2].seed + 1)
            for side, one in self.models.items():
                config = one.model.config
                size = 2 * config.num_hidden_layers * config.num_key_value_heads * self._head_dim(side)
                self.net.project[side] = torch.nn.Linear(self.net.embed.weight.shape[1], size)

    def _head_dim(self, side: str) -> int:
        config = self.models[side].model.config
        return config.hidden_size // config.num_attention_heads

    def cache(self, side: str, batch: Batch) -> Any:
        """Keys and values of every layer."""
        from transformers import DynamicCache

        z_BMZ, config = self.net.latent(batch.sources), self.models[side].model.config
        layers, heads = config.num_hidden_layers, config.num_key_value_heads
        B, M, _ = z_BMZ.shape
        x_BMF = self.net.project[side](z_BMZ)
        parts = x_BMF.view(B, M, 2 * layers, heads, self._head_dim(side)).permute(2, 0, 3, 1, 4)
        cache = DynamicCache()
        for layer in range(layers):
            cache.update(parts[2 * layer], parts[2 * layer + 1], layer)
        return cache

    def loss(self, batch: Batch) -> Any:
        losses = {}
        for side, one in self.models.items():
            cache, B, M = self.cache(side, batch), len(batch.sources), self.net.M
            inputs = self.sequence(side, batch, torch.zeros(B, M, one.model.config.hidden_size))
            given = {name: tensor[:, M:] for name, tensor in inputs.items() if name != "attention_mask"}
            mask = {"attention_mask": inputs["attention_mask"]}
            losses[side] = one.model(**given, **mask, past_key_values=cache, use_cache=True).loss
        return losses


__all__ = ["Decoding", "KeysAndValues", "LeftPadded", "TinyWire", "ask", "case_of", "left_padded", "tiny_wires"]
