"""A gate as a badge: a self-contained SVG, or the JSON that shields.io makes one of. Never stronger than the result."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import NamedTuple

from wirecheck.gate_records import GateOutcome, GateResult
from wirecheck.schema import LADDER
from wirecheck.views import templates
from wirecheck.views.gate import sentence
from wirecheck.views.words import visible

LABEL = "wirecheck"


class Paint(NamedTuple):
    """A colour by the name that shields.io knows, and a shade of it on which white text can be read."""

    name: str
    shade: str


PAINT: dict[GateOutcome, Paint] = {
    "compatible": Paint("brightgreen", "#1a7f37"),
    "incompatible": Paint("red", "#b42318"),
    "could-not-check": Paint("orange", "#b54708"),
    "unproven": Paint("yellow", "#8a6100"),
    "not-run": Paint("lightgrey", "#57606a"),
}

_HEIGHT, _FONT, _PAD = 20, 11, 6
"""Pixels: of the badge, of its letters, beside each text."""
_THOUSANDTHS = {
    letter: width
    for width, letters in {
        274: "il'",
        352: " fj",
        394: ".,trI",
        454: '()[]-/\\:;|J!"`',
        521: "csz",
        600: "kvxyaeoLF?EPTY_*{}",
        633: "bdghnpqu0123456789$",
        690: "ABCKRSVXZ&",
        765: "DGHNUOQ",
        830: "wM+<=>^~#",
        985: "mW@%",
    }.items()
    for letter in letters
}
"""Of an em: how wide the letters of Verdana are, about."""
_OTHERS, _WIDE = 640, 1000


def message(found: GateResult) -> str:
    """What the badge says: the outcome; of a compatible gate also its weakest rung, and how much was accepted."""
    if found.status != "finished":
        return "not finished"
    if found.outcome != "compatible":
        return found.outcome.replace("-", " ")
    rungs = [row.result.verdict.strength if row.result else None for row in found.rows]
    known = [rung for rung in rungs if rung is not None]
    weakest = f" ({LADDER[min(rung.rank for rung in known)]})" if len(known) == len(rungs) else ""
    taken = sum(one.state == "used" for one in found.accepted)
    return f"compatible{weakest}" + (f", {taken} accepted" if taken else "")


def render_json(found: GateResult) -> str:
    """What shields.io's endpoint reads."""
    told = {"schemaVersion": 1, "label": LABEL, "message": message(found), "color": _paint(found).name}
    return json.dumps(told, indent=2) + "\n"


def render_svg(found: GateResult) -> str:
    """The badge itself: no script, no network, readable aloud."""
    return svg(LABEL, message(found), shade=_paint(found).shade, about=sentence(found))


def svg(label: str, told: str, *, shade: str, about: str) -> str:
    """A badge of any two texts; `about` is what a reader is told who asks for more."""
    texts = {"label": visible(label), "message": visible(told), "about": visible(about)}
    sizes = {"left": text_px(texts["label"]), "right": text_px(texts["message"]), "pad": _PAD, "height": _HEIGHT}
    return templates.environment().get_template("badge.svg.j2").render(texts | sizes | {"shade": shade})


def text_px(text: str) -> int:
    """How many pixels wide the text is in the badge's font."""
    return math.ceil(_FONT * sum(map(_thousandths, text)) / 1000)


def _paint(found: GateResult) -> Paint:
    return PAINT["not-run" if found.status != "finished" else found.outcome]


def _thousandths(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    if unicodedata.east_asian_width(letter) in ("W", "F"):
        return _WIDE
    return _THOUSANDTHS.get(letter, _OTHERS)
