"""The registry: every probe there is, in the order they run. Two literal tuples, nothing registers itself."""

from __future__ import annotations

from wirecheck.probe import Probe

MODEL_PROBES: tuple[Probe, ...] = ()
PAIR_PROBES: tuple[Probe, ...] = ()
