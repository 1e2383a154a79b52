"""Where every trained tensor of a shipped wire starts."""

from __future__ import annotations

import math

import torch
from torch import nn

LEARNED_ROWS = ("queries_MZ", "queries_ME", "slots_MZ", "latents_MD")


def initialise(module: nn.Module, seed: int) -> None:
    """Every trained tensor of a wire starts here, from `seed` alone; the global generator is not touched.

    | tensor                          | start                                                          |
    |---------------------------------|----------------------------------------------------------------|
    | weight of a Linear              | N(0, 2 / (fan in + fan out)), Glorot's                         |
    | bias of a Linear                | 0                                                              |
    | byte embedding                  | N(0, 1), as strong as the sinusoid added to it                 |
    | learned queries, slots, latents | N(0, 1 / width): small beside what they read, no two alike     |
    | LayerNorm                       | weight 1, bias 0                                               |
    | scale                           | 1: the prefix starts at the RMS it is calibrated to            |
    """
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        match part:
            case nn.Linear():
                nn.init.xavier_normal_(part.weight, generator=generator)
                nn.init.zeros_(part.bias)
            case nn.Embedding():
                nn.init.normal_(part.weight, generator=generator)
            case nn.LayerNorm():
                nn.init.ones_(part.weight)
                nn.init.zeros_(part.bias)
        for name, tensor in part.named_parameters(recurse=False):
            if name in LEARNED_ROWS:
                nn.init.normal_(tensor, std=1 / math.sqrt(tensor.shape[-1]), generator=generator)
            elif name == "scale":
                nn.init.ones_(tensor)
