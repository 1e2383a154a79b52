"""The records of a step's memory over time: live bytes, part by part, at a few hundred moments that hold every peak."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field, NonNegativeInt, model_validator

from wirecheck.record import Record


class TimelinePart(Record):
    """One part of what is alive, over the moments."""

    name: str
    """As in the parts of the estimate."""
    bytes: tuple[NonNegativeInt, ...] = Field(min_length=1)
    """At each moment."""


class TimelinePhase(Record):
    """One stretch of the step: until the next one begins."""

    name: str
    """`forward a`, `backward b`, `update`: what the step does there."""
    first: NonNegativeInt
    """The number of its first moment."""


class MemoryTimeline(Record):
    """Live bytes over one step, in the order of its operations.

    A moment is the fullest one of a stretch of births and deaths of tensors, so that the peak of the step, and that of
    each phase, are among them. The stretches of a phase are alike in changes of memory, not in seconds.
    """

    phases: tuple[TimelinePhase, ...] = Field(min_length=1)
    parts: tuple[TimelinePart, ...] = Field(min_length=1)
    peak: NonNegativeInt
    """The number of the moment at which most bytes are alive: the first one, where there are several."""

    @property
    def totals(self) -> tuple[int, ...]:
        """All bytes alive at each moment."""
        return tuple(map(sum, zip(*(part.bytes for part in self.parts), strict=True)))

    def ends(self) -> tuple[int, ...]:
        """For each phase the number of the moment after its last."""
        return (*(phase.first for phase in self.phases[1:]), len(self.parts[0].bytes))

    def fullest(self) -> tuple[int, ...]:
        """For each phase the number of its fullest moment: the first one, where there are several."""
        totals = self.totals
        spans = (range(phase.first, end) for phase, end in zip(self.phases, self.ends(), strict=True))
        return tuple(max(span, key=totals.__getitem__) for span in spans)

    @model_validator(mode="after")
    def _whole(self) -> MemoryTimeline:
        count = len(self.parts[0].bytes)
        if any(len(part.bytes) != count for part in self.parts):
            raise ValueError("the parts of a timeline have different numbers of moments")
        firsts = [phase.first for phase in self.phases]
        if firsts[0] != 0 or any(x >= y for x, y in pairwise([*firsts, count])):
            raise ValueError("the phases of a timeline do not follow one another")
        totals = self.totals
        if self.peak >= count or totals[self.peak] != max(totals):
            raise ValueError("the peak of a timeline is not its fullest moment")
        return self
