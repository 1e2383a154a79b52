"""The wire *sentence-query*: text to latent, through the token features of a frozen sentence encoder.

    B batch   T tokens of the sentence encoder   M latent slots, shared and private   E its width   Z latent width

    sources     -> features_BTE    the sentence encoder, under no_grad, cut at the tokens it was made for
    features    -> r_BME           q = queries + sinusoid;  r = q + attention(q, features), 8 heads, padding masked
    r_BME       -> s_BME           g = sigmoid(W LN(r));  s = g r + (1 - g) q
    s_BME       -> z_BMZ           z = W LN(W s)
    z_BMZ       -> prefix_BMD      `adapter`, once per model, from the slots that model reads (`text_wire`)

The sentence encoder is real weights from a local folder (`WireSpec.sentence_encoder`), also where the two language
models are twins: it is neither trained nor saved with the wire, but it stands in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wirecheck import zoo_sentence
from wirecheck.wires.attention import Attention, sinusoid
from wirecheck.wires.contract import Settings, WiredModel
from wirecheck.wires.initial import initialise
from wirecheck.wires.prefix_wire import PrefixWire
from wirecheck.wires.text_wire import text_wire
from wirecheck.zoo_sentence import SentenceEncoder


class SentenceQuery(nn.Module):
    """features_BTE, mask_BT -> z_BMZ, float32. `initialise` gives the tensors their values."""

    sinusoid_ME: Tensor

    def __init__(self, E: int, Z: int, M: int) -> None:
        """Width of the features, sizes of the latent. ValueError where the heads do not divide E."""
        super().__init__()
        self.attention = Attention(E)
        self.queries_ME = nn.Parameter(torch.empty(M, E))
        self.register_buffer("sinusoid_ME", sinusoid(M, E), persistent=False)
        self.gate_norm = nn.LayerNorm(E)
        self.gate = nn.Linear(E, E)
        self.out = nn.Linear(E, E)
        self.norm = nn.LayerNorm(E)
        self.project = nn.Linear(E, Z)

    def forward(self, features_BTE: Tensor, mask_BT: Tensor) -> Tensor:
        """-> z_BMZ. `mask_BT`: True on a token."""
        q_BME = (self.queries_ME + self.sinusoid_ME).expand(features_BTE.shape[0], -1, -1)
        r_BME = q_BME + self.attention(q_BME, features_BTE, mask_BT)
        g_BME = torch.sigmoid(self.gate(self.gate_norm(r_BME)))
        s_BME = g_BME * r_BME + (1 - g_BME) * q_BME
        z_BMZ: Tensor = self.project(self.norm(self.out(s_BME)))
        return z_BMZ


class SentenceReading:
    """Sources -> what the adapters are given: z_BMZ, and each source's length as read over the longest."""

    def __init__(self, frozen: SentenceEncoder, encoder: SentenceQuery) -> None:
        """`frozen` reads the text, `encoder` is trained."""
        self.frozen, self.encoder = frozen, encoder

    def __call__(self, sources: Sequence[str]) -> tuple[Tensor, Tensor]:
        """-> z_BMZ, length_B in 0..1, both float32. Length is counted in tokens read: what was cut is not told."""
        features_BTE, mask_BT = self.frozen.features(sources)
        return self.encoder(features_BTE, mask_BT), mask_BT.sum(dim=1) / self.frozen.max_tokens


def sentence_query_wire(a: WiredModel, b: WiredModel, settings: Settings) -> PrefixWire:
    """The factory of the wire *sentence-query*. CannotRun without a sentence encoder; else as `text_wire`."""
    spec = settings.wire
    frozen = zoo_sentence.load(spec.sentence_encoder)
    encoder = SentenceQuery(frozen.width, spec.latent_width, spec.latent_length + 2 * spec.private_length)
    initialise(encoder, settings.seed)
    device = next(a.model.get_input_embeddings().parameters()).device
    nn.Module.to(frozen.model, device)
    encoder.to(device)
    return text_wire(a, b, settings, encoder, SentenceReading(frozen, encoder))
