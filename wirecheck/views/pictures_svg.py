"""matplotlib's SVG made small and dressed for light and dark: stand-in colours become classes, groups shapes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence

TONES: Mapping[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#14181c"),
    "ink": ("#1c2126", "#e4e8ec"),
    "mute": ("#5b6570", "#a6b0ba"),
    "line": ("#d4d9de", "#3a424a"),
    "limit": ("#a3123f", "#ff8fa8"),
    "a-strong": ("#00405f", "#a9d8f7"),
    "a-mid": ("#0072b2", "#3f93cf"),
    "a-soft": ("#3f93cf", "#6fbcec"),
    "b-strong": ("#7d3000", "#f8cfa0"),
    "b-mid": ("#b94f00", "#cc6a22"),
    "b-soft": ("#d67319", "#f09443"),
    "wire-strong": ("#004d38", "#b2e8d4"),
    "wire-mid": ("#00795a", "#23936f"),
    "wire-soft": ("#2f9f7c", "#4bc39c"),
    "rest-strong": ("#4a525b", "#ccd3da"),
    "rest-mid": ("#6b747e", "#7f8993"),
    "rest-soft": ("#8b949d", "#a1abb5"),
    "heat-0": ("#4a97c9", "#3f7fb0"),
    "heat-1": ("#2f77b4", "#5a9fd0"),
    "heat-2": ("#3a559c", "#83bbe4"),
    "heat-3": ("#3c3478", "#b3d8f2"),
    "heat-4": ("#2a1548", "#e6f3fd"),
}
"""Name -> colour on white, colour on dark: Okabe and Ito's blue, vermilion and green, in steps of lightness."""
_STAND_INS = {f"#fe00{number:02x}": name for number, name in enumerate(TONES)}
_COLOURS = {name: colour for colour, name in _STAND_INS.items()}
_FONT = 'system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif'
_SHOWN_WIDTH = 640
"""Pixels of a picture where there is room."""
_EDGE = 6
"""Units of paper around what is drawn."""
_NARROW_TEXT, _WIDE_TEXT = 14, 11.5
"""Units of a text's size, in a narrow window and in one from `_SHOWN_WIDTH` pixels on."""


def stand_in(tone: str) -> str:
    """The colour to draw a tone with: `rewritten` makes a class of it."""
    return _COLOURS[tone]


def rewritten(drawn: str, *, name: str, title: str, alt: str, data: Sequence[Mapping[str, str]]) -> str:
    """matplotlib's SVG as one line of small SVG: no clip paths, no metadata, ids that begin with `name`.

    A group with the id `n3` becomes shapes that bear `data[3]`. A colour that is no stand-in is a KeyError.
    """
    source = ET.fromstring(drawn)  # noqa: S314 - written by matplotlib a moment ago
    box = source.attrib["viewBox"]
    width, height = (float(part) + 2 * _EDGE for part in box.split()[2:])
    shapes, patterns = _Shapes(name, data), ET.Element("defs")
    body = list(shapes.below(source, {}))
    for pattern in source.iter(_svg("pattern")):
        patterns.append(shapes.pattern(pattern))
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "class": "wp",
            "viewBox": f"{-_EDGE} {-_EDGE} {_short(width)} {_short(height)}",
            "width": str(_SHOWN_WIDTH),
            "height": _short(height * _SHOWN_WIDTH / width),
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-desc",
        },
    )
    ET.SubElement(root, "title", {"id": f"{name}-title"}).text = title
    ET.SubElement(root, "desc", {"id": f"{name}-desc"}).text = alt
    style = ET.SubElement(root, "style")
    if len(patterns):
        root.append(patterns)
    place = {"x": str(-_EDGE), "y": str(-_EDGE), "width": "100%", "height": "100%"}
    ET.SubElement(root, "rect", {"class": "f-paper", **place})
    root.extend(body)
    style.text = _style(shapes.tones)
    return ET.tostring(root, encoding="unicode").replace("\n", " ")


def _style(used: set[str]) -> str:
    """The rules of those tones. A page can set `--wp-NAME`; who knows no custom properties takes the light colour."""
    names = sorted({"paper", *(one[2:] for one in used)})
    rules = [f".wp{{max-width:100%;height:auto;{_variables(names, 0)}}}", f".wp text{{font:{_NARROW_TEXT}px {_FONT}}}"]
    rules.append(".wp .e{text-anchor:end}.wp .m{text-anchor:middle}.wp .b{font-weight:600}")
    for one in sorted({"f-paper", *used}):
        attribute, light = ("fill" if one[0] == "f" else "stroke"), TONES[one[2:]][0]
        rules.append(f".wp .{one}{{{attribute}:{light};{attribute}:var(--{one[2:]})}}")
    rules.append(f"@media screen and (prefers-color-scheme:dark){{.wp{{{_variables(names, 1)}}}}}")
    rules.append(f"@media (min-width:{_SHOWN_WIDTH}px){{.wp text{{font-size:{_WIDE_TEXT}px}}}}")
    return "".join(rules)


def _variables(names: Sequence[str], scheme: int) -> str:
    return ";".join(f"--{name}:{TONES[name][scheme]}" for name in names)


def _svg(tag: str) -> str:
    return f"{{http://www.w3.org/2000/svg}}{tag}"


_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_RECTANGLE = re.compile(r"M (\S+) (\S+) L (\S+) (\S+) L (\S+) (\S+) L (\S+) (\S+) z", re.ASCII)
_ANCHORS = {"middle": "m", "end": "e"}


class _Shapes:
    """What is kept of matplotlib's groups: paths, rectangles and texts, in their order."""

    def __init__(self, name: str, data: Sequence[Mapping[str, str]]) -> None:
        self.name, self.data = name, data
        self.tones: set[str] = set()
        self._patterns: dict[str, str] = {}

    def below(self, node: ET.Element, told: Mapping[str, str]) -> Iterator[ET.Element]:
        """The shapes below a group; `told` is what the group stands for."""
        for child in node:
            tag = child.tag.rpartition("}")[2]
            if tag == "g":
                number = re.fullmatch(r"n(\d+)", child.get("id", ""), re.ASCII)
                yield from self.below(child, self.data[int(number[1])] if number else told)
            elif tag == "path":
                yield self.path(child, told)
            elif tag == "text":
                yield self.text(child)

    def path(self, source: ET.Element, told: Mapping[str, str]) -> ET.Element:
        """A path, or a rectangle where it is one."""
        drawn = " ".join(source.attrib["d"].split())
        corners = _RECTANGLE.fullmatch(drawn)
        attributes = {**self._look(source.get("style", "")), **told}
        if corners is None:
            return ET.Element("path", {"d": _path(drawn), **attributes})
        x0, y0, x1, y1, x2, y2 = (float(one) for one in corners.groups()[:6])
        if (x1, y1) != (x2, y0) and (x1, y1) != (x0, y2):
            return ET.Element("path", {"d": _path(drawn), **attributes})
        placed = {"x": min(x0, x2), "y": min(y0, y2), "width": abs(x2 - x0), "height": abs(y2 - y0)}
        return ET.Element("rect", {**{key: _short(one, 2) for key, one in placed.items()}, **attributes})

    def text(self, source: ET.Element) -> ET.Element:
        """One line of text: its font is the style sheet's."""
        style = _declared(source.get("style", ""))
        words = source.text or ""
        classes = [self._tone("f", style["fill"])] if "fill" in style else []
        if anchor := _ANCHORS.get(style.get("text-anchor", "")):
            classes.append(anchor)
        if {"700", "bold"} & set(style.get("font", style.get("font-weight", "")).split()):
            classes.append("b")
        placed = _placed(source)
        made = ET.Element("text", {"x": placed[0], "y": placed[1], "class": " ".join(classes)})
        made.text = words
        return made

    def pattern(self, source: ET.Element) -> ET.Element:
        """One hatch, under the picture's own id."""
        kept = {key: source.attrib[key] for key in ("patternUnits", "width", "height")}
        made = ET.Element("pattern", {"id": self._patterns.setdefault(source.attrib["id"], self._next()), **kept})
        for child in source:
            if child.tag == _svg("rect"):
                tone = self._tone("f", child.attrib["fill"])
                made.append(ET.Element("rect", {"width": "72", "height": "72", "class": tone}))
            else:
                look = self._look(child.get("style", ""))
                made.append(ET.Element("path", {"d": _path(" ".join(child.attrib["d"].split())), **look}))
        return made

    def _next(self) -> str:
        return f"{self.name}-hatch{len(self._patterns)}"

    def _tone(self, letter: str, colour: str) -> str:
        tone = f"{letter}-{_STAND_INS[colour]}"
        self.tones.add(tone)
        return tone

    def _look(self, style: str) -> dict[str, str]:
        """Class and attributes of a shape."""
        declared, look, classes = _declared(style), {}, []
        for attribute, letter in (("fill", "f"), ("stroke", "s")):
            colour = declared.get(attribute)
            if colour is not None and colour.startswith("url(#"):
                old = colour[5:-1]
                look[attribute] = f"url(#{self._patterns.setdefault(old, self._next())})"
            elif colour not in (None, "none"):
                classes.append(self._tone(letter, colour))
            elif attribute == "fill" and colour == "none":
                look["fill"] = "none"
        if classes:
            look["class"] = " ".join(classes)
        if "stroke" in declared and declared["stroke"] != "none":
            look |= {key: declared[key] for key in ("stroke-width", "stroke-dasharray") if key in declared}
            if declared.get("stroke-linecap") == "round":
                look["stroke-linecap"] = "round"
        return look


def _declared(style: str) -> dict[str, str]:
    pairs = (one.partition(":") for one in style.split(";"))
    return {key.strip(): value.strip() for key, _, value in pairs if value}


def _placed(text: ET.Element) -> tuple[str, str]:
    """Where a text stands: matplotlib says it as attributes, or as a translation."""
    if "x" in text.attrib:
        return _short(float(text.attrib["x"])), _short(float(text.attrib["y"]))
    found = _NUMBER.findall(text.attrib["transform"])
    return _short(float(found[0])), _short(float(found[1]))


def _path(drawn: str) -> str:
    """A path with a decimal, and without what can be left out."""
    short = _NUMBER.sub(lambda one: _short(float(one[0])), drawn)
    short = re.sub(r" ?([A-Zz]) ?", r"\1", short)
    return re.sub(r"(?<=[\d.])L", " ", short)


def _short(number: float, digits: int = 1) -> str:
    """Rounded, and without zeros that say nothing."""
    text = f"{number:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
