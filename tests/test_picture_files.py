"""Each picture stands on its own, in light and dark, loads nothing, and lets no name become markup."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import picture_cases as cases
from tests.factories import HOSTILE, hostile_result, pair_result
from tests.picture_cases import GIB, SVG, texts
from wirecheck.matrix_tally import Tally
from wirecheck.schema import CheckedModel, Fit, MemoryTimeline, PairResult, TimelinePart, TimelinePhase
from wirecheck.views.pictures import WIDTH, Picture, cut, inline, width_of
from wirecheck.views.pictures_frontier import of_frontier
from wirecheck.views.pictures_matrix import of_matrix
from wirecheck.views.pictures_memory import fill_of
from wirecheck.views.pictures_result import of_result
from wirecheck.views.pictures_svg import TONES
from wirecheck.views.words import visible


@pytest.fixture(scope="module")
def drawn() -> dict[str, Picture]:
    """The pictures of a result that has figures for all of them."""
    return {one.name: one for one in of_result(cases.drawn_result())}


@pytest.fixture(scope="module")
def everything(drawn) -> tuple[Picture, ...]:
    """One of each picture there is."""
    few, many = cases.matrix(("one", "two", "three", "four")), cases.matrix(tuple(f"model-{n}" for n in range(32)))
    return (
        *drawn.values(),
        *of_frontier(cases.frontier()),
        *(one for head in (few, many) for one in of_matrix(head, Tally.of(head))),
    )


def test_the_same_input_gives_the_same_bytes_whatever_matplotlib_is_set_to(drawn: dict[str, Picture]) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 31, "path.sketch": (3, 9, 2), "svg.fonttype": "path", "text.parse_math": True}):
        before = dict(mpl.rcParams)
        assert {one.name: one for one in of_result(cases.drawn_result())} == drawn
        assert dict(mpl.rcParams) == before


def test_each_picture_stands_alone_and_loads_nothing(everything: tuple[Picture, ...]) -> None:
    for picture in everything:
        root = ET.fromstring(picture.svg)
        assert "\n" not in picture.svg
        assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {
            *("svg", "title", "desc", "style", "defs", "pattern", "rect", "path", "text"),
        }
        assert "href" not in picture.svg
        assert "@import" not in picture.svg
        assert picture.svg.count("http") == 1  # the name of the format
        ids = {one.get("id") for one in root.iter()} - {None}
        used = {
            name for one in root.iter() for value in one.attrib.values() for name in re.findall(r"url\((.*?)\)", value)
        }
        assert used <= {f"#{name}" for name in ids}
        assert set(root.attrib["aria-labelledby"].split()) <= ids
        assert root.findtext(f"{SVG}title") == picture.title
        assert root.findtext(f"{SVG}desc") == picture.alt
        assert "prefers-color-scheme:dark" in picture.svg
        assert all(f"--paper:{colour}" in picture.svg for colour in TONES["paper"])
        assert len(picture.svg.encode()) < 60_000


def test_every_class_has_a_rule_and_every_rule_its_colour(everything: tuple[Picture, ...]) -> None:
    for picture in everything:
        root = ET.fromstring(picture.svg)
        style = root.findtext(f"{SVG}style")
        classes = {name for one in root.iter() for name in one.get("class", "").split()}
        assert all(f".{name}{{" in style or name == "wp" for name in classes)
        light, dark = style.split("@media screen and (prefers-color-scheme:dark)")
        for tone in {name[2:] for name in classes if name[1:2] == "-"}:
            assert f"--{tone}:{TONES[tone][0]}" in light
            assert f"--{tone}:{TONES[tone][1]}" in dark


def test_ids_are_unique_on_a_page_and_the_figure_is_named(drawn: dict[str, Picture]) -> None:
    page = "".join(map(inline, (*drawn.values(), *of_frontier(cases.frontier()))))
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert page.count('role="img"') == page.count("<figcaption>") == 6
    ET.fromstring(f"<page>{page}</page>")


def test_no_text_leaves_its_picture(everything: tuple[Picture, ...]) -> None:
    for picture in (*everything, *hostile_pictures("W" * 300), *hostile_pictures("\u6f22" * 90)):
        for one in ET.fromstring(picture.svg).iter(f"{SVG}text"):
            wide, x, names = width_of(one.text or ""), float(one.attrib["x"]), one.get("class", "").split()
            left = x - wide if "e" in names else x - wide / 2 if "m" in names else x
            assert left >= -1
            assert left + wide <= WIDTH + 1, (picture.name, one.text)


def luminance(colour: str) -> float:
    """As WCAG has it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_tone_is_told_from_the_paper() -> None:
    for scheme in (0, 1):
        paper = luminance(TONES["paper"][scheme])
        for name, colours in TONES.items():
            lower, upper = sorted((luminance(colours[scheme]), paper))
            contrast = (upper + 0.05) / (lower + 0.05)
            least = {"paper": 1.0, "line": 1.0, "ink": 4.5, "mute": 4.5, "limit": 4.5}.get(name, 3.0)
            assert contrast >= least, (name, scheme, contrast)


def test_parts_of_both_models_differ_in_colour_and_kinds_in_pattern_too() -> None:
    kinds = ("weights", "activations", "logits and loss", "gradients", "masks", "recomputed", "embeddings")
    fills = {(kind, side): fill_of(f"{kind} {side}") for kind in kinds for side in "ab"}
    assert len(set(fills.values())) == len(fills)
    assert all(fill.tone.startswith(side) for (_, side), fill in fills.items())
    assert fill_of("activations of the wire").tone == "wire-strong"
    assert fill_of("layer activations a") == fill_of("activations a")


# --- names from strangers ----------------------------------------------------------------------------------------


def hostile_pictures(text: str) -> tuple[Picture, ...]:
    """Every picture, with that text wherever a record can hold one."""
    phases = (TimelinePhase(name=text, first=0), TimelinePhase(name=f"{text}2", first=1))
    parts = (TimelinePart(name=text, bytes=(GIB, GIB)), TimelinePart(name=f"{text} a", bytes=(0, GIB)))
    line = MemoryTimeline(phases=phases, parts=parts, peak=1)
    fits = tuple(
        Fit(gpu=text, count=n, outcome="fits", free_bytes=GIB, usable_bytes=far * GIB) for n, far in ((1, 3), (3, 900))
    )
    model = CheckedModel(ref=text, name=text, kind="folder", commit="0")
    result: PairResult = pair_result(
        a=model,
        b=model,
        memory=cases.memory(line, fits=fits),
        runs=(*pair_result().runs, *cases.counted({text: (3, 4)})),
    )
    edge = cases.frontier()
    rows = tuple(row.model_copy(update={"gpu": text}) for row in edge.rows)
    ways = tuple(way.model_copy(update={"words": text}) for way in edge.ways)
    head = cases.matrix((text, f"{text}-2", "plain"))
    return (
        *of_result(result),
        *of_frontier(edge.model_copy(update={"rows": rows, "ways": ways})),
        *of_matrix(head, Tally.of(head)),
    )


def assert_harmless(made: tuple[Picture, ...]) -> None:
    assert len(made) == 9
    for picture in made:
        tags = {one.tag.removeprefix(SVG) for one in ET.fromstring(picture.svg).iter()}
        assert tags <= {"svg", "title", "desc", "style", "defs", "pattern", "rect", "path", "text"}
        assert visible(picture.svg) == picture.svg
        ET.fromstring(inline(picture))


@pytest.mark.parametrize(
    "text", [HOSTILE, "<script>alert(1)</script>", "$\\frac{1}{2}$ & $x", "</desc>]]>", "a\u0301🙂"]
)
def test_what_a_stranger_writes_stays_text(text: str) -> None:
    made = hostile_pictures(text)
    assert_harmless(made)
    assert all("<script" not in picture.svg.lower() for picture in made)
    assert visible(text) in made[0].alt
    assert len(of_result(hostile_result(text))) == 1


ODD = st.text(st.sampled_from("<>&\"'$\\{}_^%#\x00\x1b\n\r\t\u202e\u2066\u2028\ufffe\ud800🙂漢ا;:/ -—a"), min_size=1)


@settings(max_examples=8, deadline=None)
@given(ODD)
def test_no_text_breaks_the_xml(text: str) -> None:
    assert_harmless(hostile_pictures(text))


def test_a_long_name_is_cut_and_the_whole_stands_in_the_words() -> None:
    name = f"org/{'long-' * 30}instruct"
    ladder, *_ = hostile_pictures(name)
    assert name not in texts(ladder)
    assert any(one.startswith("A: org/long") and "…" in one and one.endswith("instruct") for one in texts(ladder))
    assert name in ladder.alt
    assert cut("short", 200) == "short"
    assert cut("W" * 90, 1) == "…"


def test_matplotlib_is_loaded_late_and_is_silent_without_a_home(tmp_path: Path) -> None:
    program = (
        "import sys; from wirecheck.views import pictures_frontier, pictures_matrix, pictures_result as p;"
        "assert 'matplotlib' not in sys.modules;"
        "from wirecheck.schema import PairResult;"
        "print(len(p.of_result(PairResult.model_validate_json(sys.stdin.read()))))"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MPL", "XDG"))}
    (tmp_path / "file").touch()  # below a file no folder can be made
    ran = subprocess.run(
        [sys.executable, "-c", program],
        input=cases.drawn_result(runs=()).model_dump_json(),
        env={**kept, "HOME": str(tmp_path / "file" / "home"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "2\n", "")


@pytest.mark.parametrize("bold", [False, True])
def test_text_is_no_wider_than_room_is_made_for(bold: bool) -> None:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=14, weight="bold" if bold else "normal")
    for words in (
        "meta-llama__Llama-3.1-8B-Instruct",
        "peak 42.32 GiB, backward b",
        "<script>&amp;…",
        "WIRE: QWEN",
        "—≥ 65,536 →",
    ):
        wide, *_ = text_to_path.get_text_width_height_descent(words, font, ismath=False)
        assert wide <= width_of(words, bold=bold) <= 1.35 * wide


def test_on_paper_a_picture_is_light() -> None:
    assert "@media screen and (prefers-color-scheme:dark)" in of_result(cases.drawn_result())[0].svg
