"""The trainable part: K learned queries look at the reader's hidden states and become soft prompts of the answerer."""

import torch
import torch.nn.functional as F
from torch import nn


class LookBlock(nn.Module):
    """Queries attend to the reader's states, then think for themselves."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, queries, states, mask):
        """queries [B, K, W], states [B, T, W], mask [B, T] -> [B, K, W]"""
        q = self.split(self.to_q(self.norm(queries)))
        k, v = (self.split(x) for x in self.to_kv(states).chunk(2, dim=-1))
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.bool()[:, None, None, :])
        queries = queries + self.to_out(seen.transpose(1, 2).flatten(2))
        return queries + self.mlp(queries)

    def split(self, x):
        """[B, N, W] -> [B, heads, N, W / heads]"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class SoftPromptBridge(nn.Module):
    """Hidden states of the reader -> `num_prompts` vectors in the answerer's embedding space."""

    def __init__(self, d_reader, d_answerer, num_prompts=16, width=256, heads=4, depth=2, embedding_rms=0.02):
        super().__init__()
        self.inlet = nn.Sequential(nn.LayerNorm(d_reader), nn.Linear(d_reader, width))
        self.queries = nn.Parameter(torch.randn(num_prompts, width) / width**0.5)
        self.blocks = nn.ModuleList(LookBlock(width, heads) for _ in range(depth))
        self.outlet = nn.Linear(width, d_answerer)
        self.log_gain = nn.Parameter(torch.tensor(float(embedding_rms)).log())

    def forward(self, states, mask):
        """states [B, T, d_reader], mask [B, T] -> prompts [B, K, d_answerer], float32"""
        states = self.inlet(states.float())
        prompts = self.queries.expand(states.shape[0], -1, -1)
        for block in self.blocks:
            prompts = block(prompts, states, mask)
        prompts = self.outlet(prompts)
        return F.layer_norm(prompts, prompts.shape[-1:]) * self.log_gain.exp()
