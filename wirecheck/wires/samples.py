"""The small batch of text that every wire is tried on."""

from __future__ import annotations

from wirecheck.wires.contract import Batch

SAMPLES = Batch(
    sources=(
        "Marie moved from Lyon to Porto in 1987 and opened a bakery there. Where is the bakery?",
        "def area(r):\n    return 3.14159 * r ** 2\n\nWhat does area(2) return?",
        "Столица Франции - Париж. 東京は日本の首都です。 What is the capital of Japan?",
    ),
    answers=("in Porto", "12.56636, a float", "東京 (Tokyo)"),
)
"""English, code, other scripts; sources and answers of unequal length."""

TWO_SOURCES = ("Keys are under the red stone.", "A cow sleeps by the old gate.")
"""Equal in bytes, so that no length tells them apart; different from the first byte on."""
