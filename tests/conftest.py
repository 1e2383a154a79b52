"""For every test: no property is judged by the clock."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("wirecheck", deadline=None)
settings.load_profile("wirecheck")
