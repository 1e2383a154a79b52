"""The adapter: the latent as soft tokens of one model, at the place and scale of its embedding table.

B batch   M latent slots   Z latent width   Y = 2 Z   D model width   R rows of the table read at once

z_BMZ -> x_BMD         body: a small MLP, FiLM from z, LayerNorm; its RMS starts at 1
x_BMD -> prefix_BMD    colour (optional): mean and deviation per dimension are those of the model's table
                       calibrate: the RMS of each row is the table's (Mistral-7B's is 0.0027: 370 x less than 1)
                       scale: one learned scalar, 1 at the start

Metadata (optional): the adapter is told each slot's number and the source's length. Y is a multiple of Z, 2 if not
said otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS_AT_ONCE = 8192  # a 262,144-row table is never copied whole to float64


class TableStatistics(NamedTuple):
    """What the embeddings of a model's real tokens look like, float32: mean and deviation per dimension, RMS of all."""

    mean_D: Tensor
    std_D: Tensor
    rms: Tensor


@torch.no_grad()
def read_table(embedding: nn.Module, num_tokens: int) -> TableStatistics:
    """Statistics of `embedding(id)` for ids 0 .. num_tokens - 1, summed in float64.

    The module is called, its weight is not read: Gemma's multiplies by √D on the way out. Rows past the
    tokenizer's last id are padding that no text reaches, hence `num_tokens`.
    """
    device = next(embedding.parameters()).device
    total_D: Tensor | float = 0.0
    squares_D: Tensor | float = 0.0
    for start in range(0, num_tokens, ROWS_AT_ONCE):
        ids_R = torch.arange(start, min(start + ROWS_AT_ONCE, num_tokens), device=device)
        rows_RD = embedding(ids_R).double()
        total_D = total_D + rows_RD.sum(dim=0)
        squares_D = squares_D + rows_RD.square().sum(dim=0)
    mean_D = torch.as_tensor(total_D) / num_tokens
    square_D = torch.as_tensor(squares_D) / num_tokens
    std_D = (square_D - mean_D.square()).clamp_min(0).sqrt()
    return TableStatistics(mean_D.float(), std_D.float(), square_D.mean().sqrt().float())


def root_mean_square(x: Tensor, dim: tuple[int, ...] | None = None) -> Tensor:
    """√ mean x², in float32; over `dim`, kept, or over all."""
    return x.float().square().mean(dim=dim, keepdim=dim is not None).sqrt()


class Adapter(nn.Module):
    """z_BMZ -> prefix_BMD for one model, float32. `wires.initialise` gives the tensors their values."""

    mean_D: Tensor
    std_D: Tensor
    rms: Tensor

    def __init__(
        self, Z: int, M: int, table: TableStatistics, *, multiple: int = 2, metadata: bool = True, colour: bool = True
    ) -> None:
        """D is the width of `table`; `multiple` is Y / Z."""
        super().__init__()
        D, Y = table.mean_D.shape[0], multiple * Z
        self.has_metadata, self.has_colour = metadata, colour
        if metadata:
            self.slots_MZ = nn.Parameter(torch.empty(M, Z))
            self.length = nn.Linear(1, Z)
        self.norm = nn.LayerNorm(Z)
        self.widen = nn.Linear(Z, Y)
        self.mix = nn.Linear(Y, Y)
        self.project = nn.Linear(Y, D)
        self.skip = nn.Linear(Z, D)
        self.film_scale = nn.Linear(Z, D)
        self.film_shift = nn.Linear(Z, D)
        self.out_norm = nn.LayerNorm(D)
        self.scale = nn.Parameter(torch.empty(()))
        for name, statistic in table._asdict().items():
            self.register_buffer(name, statistic)

    def forward(self, z_BMZ: Tensor, length_B: Tensor) -> Tensor:
        """-> prefix_BMD. `length_B`: how long each source is, over the longest that is read.

        The scalar stands last: standardising and calibrating would each cancel a factor that stood before them,
        and leave a parameter that trains on rounding noise.
        """
        x_BMD = self.body(z_BMZ, length_B)
        if self.has_colour:
            x_BMD = self.colour(x_BMD)
        return self.scale * self.calibrate(x_BMD)

    def body(self, z_BMZ: Tensor, length_B: Tensor) -> Tensor:
        """h = LN(z + slot + tanh(W length));  u = mlp(h) + skip(h);  LN(u sigmoid(W z) + W z)."""
        told_BMZ = z_BMZ
        if self.has_metadata:
            told_BMZ = z_BMZ + self.slots_MZ + torch.tanh(self.length(length_B[:, None, None]))
        h_BMZ = self.norm(told_BMZ)
        wide_BMY = F.gelu(self.mix(F.gelu(self.widen(h_BMZ))))
        u_BMD = self.project(wide_BMY) + self.skip(h_BMZ)
        film_BMD = u_BMD * torch.sigmoid(self.film_scale(z_BMZ)) + self.film_shift(z_BMZ)
        x_BMD: Tensor = self.out_norm(film_BMD)
        return x_BMD

    def colour(self, x_BMD: Tensor) -> Tensor:
        """Each token standardised, then given the table's deviation and mean, dimension by dimension."""
        return F.layer_norm(x_BMD, x_BMD.shape[-1:]) * self.std_D + self.mean_D

    def calibrate(self, x_BMD: Tensor) -> Tensor:
        """x rms(table) / rms(x), per row of the batch, so that no row's loss depends on its neighbours."""
        return x_BMD * (self.rms / root_mean_square(x_BMD, dim=(1, 2)).clamp_min(1e-12))
