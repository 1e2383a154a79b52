"""The registry: every probe there is, in the order they run. Literal tuples, nothing registers itself."""

from __future__ import annotations

from wirecheck.probe import Probe
from wirecheck.probes.config import CONFIG
from wirecheck.probes.embeds import EMBEDS_TWIN, EMBEDS_WEIGHTS
from wirecheck.probes.expectations import EXPECTATIONS
from wirecheck.probes.memory import MEMORY, MEMORY_MODEL
from wirecheck.probes.pairing import PAIRING
from wirecheck.probes.skeleton import SKELETON
from wirecheck.probes.template import TEMPLATE
from wirecheck.probes.tokenizer import TOKENIZER
from wirecheck.probes.values import VALUES
from wirecheck.probes.weights import WEIGHTS
from wirecheck.probes.wire import WIRE_TWIN, WIRE_WEIGHTS

MODEL_PROBES: tuple[Probe, ...] = (
    CONFIG,
    WEIGHTS,
    SKELETON,
    TOKENIZER,
    TEMPLATE,
    EMBEDS_TWIN,
    VALUES,
    EMBEDS_WEIGHTS,
    EXPECTATIONS,
)
PAIR_PROBES: tuple[Probe, ...] = (PAIRING, MEMORY, WIRE_TWIN, WIRE_WEIGHTS)
SINGLE_PROBES: tuple[Probe, ...] = (MEMORY_MODEL,)
"""Asked of a model checked alone; of a pair, its own probes ask the same of both together."""
