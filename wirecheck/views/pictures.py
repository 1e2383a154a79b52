"""The drawing ground of the reports' pictures: a theme of two schemes, and a figure as SVG text of the same bytes.

Pictures are drawn with stand-in colours, which become style classes: the reader's scheme chooses light or dark.
It is 480 units wide, so that its text is 10 px high on a page of 390 px; where there is room, the text is set smaller.
"""

from __future__ import annotations

import html
import io
import logging
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wirecheck.views.pictures_svg import rewritten, stand_in
from wirecheck.views.words import visible

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 480
"""Units of a picture's width; a unit is a point of the figure."""
TEXT = 14
"""Units of the height of a line's letters; see `pictures_svg.STYLE` for wide pages."""
LINE = 20
"""Units from one line of text to the next."""
_RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": TEXT,
    "hatch.linewidth": 1.6,
    "path.simplify": True,
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.usetex": False,
}
"""DejaVu Sans comes with matplotlib: places do not hang on the fonts of a machine. The page's own font is shown."""


@dataclass(frozen=True)
class Picture:
    """One picture of a report, the same for the page and as a file of its own."""

    name: str
    """A slug, unique in a report."""
    title: str
    alt: str
    """The same figures in words: plain text, not escaped."""
    svg: str
    """A whole SVG document on one line, without an XML prolog: same input, same bytes."""


def inline(picture: Picture) -> str:
    """The picture as an HTML `<figure>` on one line; its ids begin with its name."""
    caption = html.escape(visible(picture.title))
    opened = f'<figure class="picture" style="margin:1rem 0" id="picture-{picture.name}">'
    return f"{opened}{picture.svg}<figcaption>{caption}</figcaption></figure>"


@dataclass(frozen=True)
class Fill:
    """How an area is filled: a tone, and a pattern of strokes for those who do not see it."""

    tone: str
    hatch: str | None = None

    def style(self) -> dict[str, Any]:
        """As keywords of a matplotlib patch; the edge, in the paper's colour, sets neighbours apart."""
        return {
            "facecolor": stand_in(self.tone),
            "edgecolor": stand_in("paper"),
            "hatch": self.hatch,
            "linewidth": 0.6,
            "clip_on": False,
        }


Entry = tuple[Fill | None, str, str]
"""Of a legend: fill, name, figure."""


@dataclass
class Sheet:
    """One picture while it is drawn: places are in units from its upper left corner."""

    name: str
    height: float
    figure: Figure
    page: Axes
    data: list[dict[str, str]] = field(default_factory=list)
    """What each tagged artist stands for, by the number in its id."""

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        tone: str = "ink",
        anchor: str = "left",
        bold: bool = False,
        backed: bool = False,
    ) -> None:
        """One line of text whose base line is at `y`; `anchor` is left, center or right; `backed`: lines stop at it."""
        if backed:
            wide = width_of(words, bold=bold)
            left = x - wide * {"left": 0.0, "center": 0.5, "right": 1.0}[anchor]
            self.rectangle(left - 3, y - TEXT + 1, wide + 6, TEXT + 3, Fill("paper")).set_zorder(2.5)
        weight = "bold" if bold else "normal"
        self.page.text(x, y, words, color=stand_in(tone), ha=anchor, va="baseline", fontweight=weight, clip_on=False)

    def tag(self, artist: Artist, **data: object) -> None:
        """Tells in the SVG what an artist stands for, as `data-` attributes."""
        artist.set_gid(f"n{len(self.data)}")
        self.data.append({f"data-{key}": visible(str(value)) for key, value in data.items()})

    def rectangle(self, x: float, y: float, width: float, height: float, fill: Fill, **data: object) -> Artist:
        """A filled rectangle, with what it stands for."""
        from matplotlib.patches import Rectangle

        made = self.page.add_patch(Rectangle((x, y), width, height, **fill.style()))
        if data:
            self.tag(made, **data)
        return made

    def frame(self, x: float, y: float, width: float, height: float) -> Artist:
        """A dashed frame, hollow."""
        across, down = [x, x + width, x + width, x, x], [y, y, y + height, y + height, y]
        return self.line(across, down, "mute", linestyle=(0, (3, 2)))

    def line(
        self, x: Sequence[float], y: Sequence[float], tone: str = "line", width: float = 1.0, **style: Any
    ) -> Artist:
        """A line through those places."""
        return self.page.plot(x, y, color=stand_in(tone), linewidth=width, clip_on=False, **style)[0]

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes without frame or ticks: x is for figures, y counts units downwards."""
        place = (left / WIDTH, 1 - (top + height) / self.height, width / WIDTH, height / self.height)
        made = self.figure.add_axes(place)
        made.axis("off")
        made.set_ylim(height, 0)
        return made

    def legend(self, top: float, entries: Sequence[Entry]) -> None:
        """Swatches with a name and a figure, one a line; a dashed frame for what has no fill."""
        names = [cut(name, WIDTH - 140) for _, name, _ in entries]
        right = 20 + max(map(width_of, names)) + max(width_of(figure) for *_, figure in entries) + 12
        for row, ((fill, _, figure), name) in enumerate(zip(entries, names, strict=True)):
            y = top + row * LINE
            if fill is None:
                self.frame(0.5, y + 3.5, 13, 12)
            else:
                self.rectangle(0, y + 3, 14, 13, fill)
            self.text(20, y + 15, name)
            self.text(right, y + 15, figure, tone="mute", anchor="right")

    def finish(self, title: str, alt: str) -> Picture:
        """The picture as SVG."""
        drawn = io.StringIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a glyph that DejaVu lacks is drawn by the reader's own fonts
            self.figure.savefig(
                drawn, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
            )
        title, alt = visible(title), visible(alt)
        svg = rewritten(drawn.getvalue(), name=self.name, title=title, alt=alt, data=self.data)
        return Picture(self.name, title, alt, svg)


@contextmanager
def sheet(name: str, height: float) -> Iterator[Sheet]:
    """An empty picture of that height in units; matplotlib's settings and its log are as they were, afterwards."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns where HOME is read-only, which costs nothing here
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure

        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update({**_RC, "svg.hashsalt": name, "hatch.color": stand_in("paper")})
            figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
            figure.patch.set_visible(False)
            page = figure.add_axes((0.0, 0.0, 1.0, 1.0))
            page.axis("off")
            page.set_xlim(0, WIDTH)
            page.set_ylim(height, 0)
            yield Sheet(name, height, figure, page)
    finally:
        logger.setLevel(level)


_NARROW, _WIDE, _BROAD = set("iljtfrI.,:;'|!()[] \u00b7"), set("#&+<=>^~≥⏎"), set("mwMW@%—→…")
_BOLD = 1.13
"""How much wider bold text is."""
_LAST_OF_THE_BASIC_PLANE = 0xFFFF
"""Above it there are emoji, and rare scripts."""


def width_of(words: str, *, bold: bool = False) -> float:
    """Units that a line of text takes at most, in DejaVu Sans: a broad font, read where the system has no other."""
    return TEXT * sum(_ems(char) for char in words) * (_BOLD if bold else 1.0)


def _ems(char: str) -> float:
    if ord(char) > _LAST_OF_THE_BASIC_PLANE:
        return 1.3
    if unicodedata.east_asian_width(char) in "WF" or char in _BROAD:
        return 1.0
    if unicodedata.combining(char):
        return 0.0
    return 0.41 if char in _NARROW else 0.85 if char in _WIDE else 0.79 if char.isupper() else 0.64


def cut(words: str, room: float, *, bold: bool = False) -> str:
    """The text made visible and short enough, its middle left out: names of models differ at both ends."""
    words = visible(words)
    if width_of(words, bold=bold) <= room:
        return words
    for kept in range(len(words) - 1, 1, -1):
        head = -(-kept * 3 // 5)
        short = f"{words[:head].rstrip()}…{words[head - kept :].lstrip()}"
        if width_of(short, bold=bold) <= room:
            return short
    return "…"


def size(count: float) -> str:
    """Bytes as the tables have them in brackets: `14.96 GiB`, `411.7 MiB`."""
    if abs(count) < 10**6:
        return f"{count:,.0f} B"
    return f"{count / 2**20:,.1f} MiB" if abs(count) < 10**9 else f"{count / 2**30:,.2f} GiB"
