"""The one table of finding codes: wirecheck's public vocabulary. Stable, never reused."""

from __future__ import annotations

from wirecheck.codes.cfg import CFG
from wirecheck.codes.emb import EMB
from wirecheck.codes.env import ENV
from wirecheck.codes.hub import HUB
from wirecheck.codes.mem import MEM
from wirecheck.codes.par import PAR
from wirecheck.codes.table import Code
from wirecheck.codes.tok import TOK
from wirecheck.codes.tpl import TPL
from wirecheck.codes.wgt import WGT
from wirecheck.codes.wir import WIR

CODES: dict[str, Code] = {
    entry.code: entry for family in (CFG, WGT, TOK, TPL, EMB, WIR, PAR, MEM, HUB, ENV) for entry in family
}

__all__ = ["CODES", "Code"]
