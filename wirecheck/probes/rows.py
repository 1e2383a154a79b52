"""How many rows a model's embedding has: off the files, as the weights probe read it, else by the config. No probe."""

from __future__ import annotations

from dataclasses import dataclass

from wirecheck.geometry import read_geometry
from wirecheck.probe import ModelBench
from wirecheck.schema import Level
from wirecheck.snapshot import JsonUnreadable


@dataclass(frozen=True)
class EmbeddingRows:
    """The number of embedding rows, and where it was read."""

    count: int
    level: Level
    source: str


def embedding_rows(bench: ModelBench) -> EmbeddingRows | None:
    """Rows of the token embedding; None where no tensor and no config tells."""
    known = [f for f in bench.facts if f.subject == bench.subject and f.key in ("embedding_rows", "vocab_size")]
    known.sort(key=lambda fact: (fact.key == "embedding_rows", fact.level.rank), reverse=True)
    for fact in known:
        if isinstance(fact.value, int) and fact.value > 0:
            return EmbeddingRows(fact.value, fact.level, fact.source)
    return _declared(bench)


def _declared(bench: ModelBench) -> EmbeddingRows | None:
    try:
        geometry = read_geometry(bench.snapshot.read_json("config.json"))
    except JsonUnreadable:
        return None
    if geometry.vocab_size is None:
        return None
    source = bench.snapshot.source("config.json", geometry.key("vocab_size"))
    return EmbeddingRows(geometry.vocab_size, Level.DECLARED, source)
