"""A model that only reads, and hands on what it read, is not asked what is asked of the one that answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.wire_cases import TinyWire, ask
from wirecheck.probes import wire_use_rows
from wirecheck.wires.contract import Batch


class Gist(TinyWire):
    """A reads source and learned memory tokens, padded on the left; its states at these become B's soft tokens."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        widths = [self.models[side].model.get_input_embeddings().weight.shape[1] for side in "ab"]
        self.net = nn.Module()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(args[2].seed)
            self.net.memory = nn.Parameter(torch.randn(4, widths[0]) * self.rms["a"])
            self.net.project = nn.Linear(*widths)

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        one = self.models["a"]
        rows = [one.tokenizer.encode(source) for source in batch.sources]
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * (len(row) + 4) for row in rows])
        text = one.model.get_input_embeddings()(ids)
        read = {
            "inputs_embeds": torch.cat((text, self.net.memory.expand(len(rows), -1, -1)), dim=1),
            "attention_mask": mask,
            "position_ids": (mask.cumsum(dim=1) - 1).clamp_min(0),
        }
        states = one.model(**read, output_hidden_states=True, use_cache=False).hidden_states[-1][:, -4:]
        x_BMD = self.net.project(states)
        return {"b": x_BMD * (self.rms["b"] / x_BMD.square().mean(dim=(1, 2), keepdim=True).sqrt())}

    def loss(self, batch: Batch) -> Any:
        return self.side_loss("b", self.sequence("b", batch, self.prefix(batch)["b"]))


class GistOfNothing(Gist):
    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return super().prefix(batch._replace(sources=("x",) * len(batch.sources)))


def test_wir11_is_not_asked_of_a_model_that_only_reads() -> None:
    output, untold = ask(wire_use_rows.source, Gist)
    assert (output.severity("WIR11"), untold) == ("ok", "")
    assert output.claim("WIR11") == "Two different sources of equal length give different soft tokens of B."
    output, _ = ask(wire_use_rows.source, GistOfNothing)
    assert output.claim("WIR11") == "Two different sources give the same soft tokens of B."


def test_wir08_and_wir09_are_of_the_model_that_answers() -> None:
    output, untold = ask(wire_use_rows.rows, Gist)
    assert (output.fired, untold) == (set(), "")
    assert output.claim("WIR08") == "What B says of a row is the same alone as among longer rows."
    assert output.claim("WIR09").endswith(" in B.")
