"""A minimal wire that keeps the contract and is sound on every check; and a way to make it and to break it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tests import rigs
from wirecheck.schema import TrainSpec, WireSpec
from wirecheck.wires.contract import Batch, Settings, WiredModel

MOST_BYTES = 512


class Net(nn.Module):
    """bytes_BT -> prefix_BMD for each side: mean byte embedding of M stretches of the source, projected."""

    def __init__(self, M: int, Z: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.M = M
        self.embed = nn.Embedding(256, Z)
        self.project = nn.ModuleDict({side: nn.Linear(Z, D) for side, D in widths.items()})

    def latent(self, sources: tuple[str, ...]) -> Tensor:
        rows = []
        for source in sources:
            ids = torch.tensor(list(source.encode()[:MOST_BYTES]) or [0])
            weight_MT = torch.eye(self.M)[torch.arange(len(ids)) * self.M // len(ids)].T
            rows.append(weight_MT @ self.embed(ids) / weight_MT.sum(1, keepdim=True).clamp_min(1))
        return torch.stack(rows)


class TinyWire:
    """Both models frozen; [prefix][BOS? Answer:][ answer EOS], right-padded and masked; cross-entropy on the answer."""

    anchor = "Answer:"

    def __init__(self, a: WiredModel, b: WiredModel, settings: Settings) -> None:
        self.models = {"a": a, "b": b}
        self.freeze()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed)
            widths = {s: m.model.get_input_embeddings().weight.shape[1] for s, m in self.models.items()}
            self.net = Net(settings.wire.latent_length, settings.wire.latent_width, widths)
        self.rms = {s: m.model.get_input_embeddings().weight.square().mean().sqrt() for s, m in self.models.items()}

    @property
    def module(self) -> nn.Module:
        return self.net

    def freeze(self) -> None:
        for one in self.models.values():
            one.model.requires_grad_(False)

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        z_BMZ = self.net.latent(batch.sources)
        made = {}
        for side, project in self.net.project.items():
            x_BMD = project(z_BMZ)
            made[side] = x_BMD * (self.rms[side] / x_BMD.square().mean(dim=(1, 2), keepdim=True).sqrt())
        return made

    def anchor_ids(self, side: str) -> list[int]:
        tok = self.models[side].tokenizer
        bos = [tok.bos_token_id] if tok.bos_token_id is not None and tok.encode("x")[:1] == [tok.bos_token_id] else []
        return [*bos, *tok.encode(self.anchor, add_special_tokens=False)]

    def answer_ids(self, side: str, answer: str) -> list[int]:
        tok = self.models[side].tokenizer
        return [*tok.encode(f" {answer}", add_special_tokens=False), tok.eos_token_id]

    def sequence(self, side: str, batch: Batch, prefix_BMD: Tensor) -> dict[str, Tensor]:
        """inputs_embeds, attention_mask and labels of one model's forward."""
        anchor = self.anchor_ids(side)
        answers = [self.answer_ids(side, answer) for answer in batch.answers]
        L = max(map(len, answers))
        ids_BN = torch.tensor([[*anchor, *ids, *[0] * (L - len(ids))] for ids in answers])
        real_BN = torch.tensor([[1] * (len(anchor) + len(ids)) + [0] * (L - len(ids)) for ids in answers])
        labels_BN = ids_BN.masked_fill(real_BN == 0, -100)
        labels_BN[:, : len(anchor)] = -100
        B, M, _ = prefix_BMD.shape
        text_BND = self.models[side].model.get_input_embeddings()(ids_BN)
        return {
            "inputs_embeds": torch.cat((prefix_BMD.to(text_BND.dtype), text_BND), dim=1),
            "attention_mask": torch.cat((torch.ones(B, M, dtype=torch.long), real_BN), dim=1),
            "labels": torch.cat((torch.full((B, M), -100), labels_BN), dim=1),
        }

    def side_loss(self, side: str, inputs: dict[str, Tensor]) -> Tensor:
        loss: Tensor = self.models[side].model(**inputs, use_cache=False).loss
        return loss

    def loss(self, batch: Batch) -> Any:
        prefixes = self.prefix(batch)
        return {side: self.side_loss(side, self.sequence(side, batch, prefixes[side])) for side in self.models}


def models(model_a: Any = None, model_b: Any = None) -> tuple[WiredModel, WiredModel]:
    """The tiny Llama (with a BOS) and the tiny Qwen2 (without one) as a factory is given them."""
    made = []
    for side, model, bos in (("a", model_a or rigs.llama(), True), ("b", model_b or rigs.qwen(), False)):
        width, layers = model.config.hidden_size, model.config.num_hidden_layers
        tok = rigs.tokenizer(bos=bos)
        made.append(WiredModel(side=side, name=side, model=model, tokenizer=tok, num_layers=layers, hidden_size=width))
    return made[0], made[1]


def settings(spec: WireSpec = rigs.SPEC, seed: int = 0) -> Settings:
    """Of the tiny wire."""
    return Settings(wire=spec, train=TrainSpec(dtype="float32"), seed=seed)


def tiny(kind: type[TinyWire] = TinyWire, *, seed: int = 0, pair: Any = None) -> tuple[TinyWire, Any]:
    """A wire of `kind` between the tiny models, and those models."""
    pair = pair or models()
    return kind(*pair, settings(seed=seed)), pair
