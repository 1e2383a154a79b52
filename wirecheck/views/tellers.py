"""What a template of a result can name beside the result: each teller is a set of functions, and nothing but those."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from wirecheck.views import claims, costs, evidence, story, wire

TELLERS: dict[str, tuple[Callable[..., Any], ...]] = {
    "story": (
        *(story.names, story.sides, story.subjects, story.subject_name, story.counts, story.sentence),
        *(story.figures, story.short_source, story.bar, story.ladder, story.ladder_of, story.ladders, story.phases),
        *(story.open_questions, story.num_open, story.not_as_asked, story.outcome_word),
    ),
    "evidence": (
        *(evidence.claims, evidence.to_act_on, evidence.fired, evidence.sound, evidence.figures, evidence.on_memory),
        *(evidence.fact_anchor, evidence.probe_anchor),
    ),
    "claims": (claims.compared, claims.sentence),
    "costs": (costs.costs, costs.sentence, costs.at_depth),
    "wire": (wire.sentence, wire.parts),
}
"""Name in a template -> its functions."""


def tellers() -> dict[str, SimpleNamespace]:
    """The tellers as a template is given them: modules would hand it all that they import."""
    return {name: SimpleNamespace(**{one.__name__: one for one in own}) for name, own in TELLERS.items()}
