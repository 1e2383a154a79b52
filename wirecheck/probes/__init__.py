"""The registry: every probe there is, in the order they run. Literal tuples, nothing registers itself."""

from __future__ import annotations

from wirecheck.probe import Probe
from wirecheck.probes.config import CONFIG
from wirecheck.probes.embeds import EMBEDS_TWIN, EMBEDS_WEIGHTS
from wirecheck.probes.embeds_use import EMBEDS_USE
from wirecheck.probes.expectations import EXPECTATIONS
from wirecheck.probes.lock import LOCK
from wirecheck.probes.meaning import MEANING
from wirecheck.probes.measured import EMBEDS_DEVICE, STEP_DEVICE
from wirecheck.probes.memory import MEMORY_FORMULA, MEMORY_FORMULA_MODEL
from wirecheck.probes.memory_trace import MEMORY, MEMORY_MODEL
from wirecheck.probes.offline import OFFLINE
from wirecheck.probes.pairing import PAIRING
from wirecheck.probes.skeleton import SKELETON
from wirecheck.probes.template import TEMPLATE
from wirecheck.probes.tokenizer import TOKENIZER
from wirecheck.probes.values import VALUES
from wirecheck.probes.weights import WEIGHTS
from wirecheck.probes.wire import WIRE_TWIN, WIRE_WEIGHTS
from wirecheck.probes.wire_sizes import WIRE_SIZES
from wirecheck.probes.wire_use import WIRE_USE

MODEL_PROBES: tuple[Probe, ...] = (
    LOCK,
    CONFIG,
    WEIGHTS,
    SKELETON,
    TOKENIZER,
    TEMPLATE,
    EMBEDS_TWIN,
    EMBEDS_USE,
    VALUES,
    EMBEDS_WEIGHTS,
    MEANING,
    OFFLINE,
    EMBEDS_DEVICE,
    EXPECTATIONS,
)
PAIR_PROBES: tuple[Probe, ...] = (
    PAIRING,
    WIRE_SIZES,
    MEMORY_FORMULA,
    MEMORY,
    WIRE_TWIN,
    WIRE_USE,
    WIRE_WEIGHTS,
    STEP_DEVICE,
)
SINGLE_PROBES: tuple[Probe, ...] = (MEMORY_FORMULA_MODEL, MEMORY_MODEL)
"""Asked of a model checked alone; of a pair, its own probes ask the same of both together."""
