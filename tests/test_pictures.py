"""The pictures show the figures of the records: what is drawn, what is written, and what the words say."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from tests import picture_cases as cases
from tests.factories import pair_result
from tests.picture_cases import GIB, bearing, points, shapes, texts
from wirecheck.matrix_tally import Tally
from wirecheck.schema import Fit, MemoryEstimate, MemoryTimeline, TimelinePart, TimelinePhase
from wirecheck.views import story
from wirecheck.views.pictures import WIDTH, Picture, size
from wirecheck.views.pictures_frontier import of_frontier
from wirecheck.views.pictures_matrix import MOST_MODELS, of_matrix
from wirecheck.views.pictures_memory import limits
from wirecheck.views.pictures_result import of_result


@pytest.fixture(scope="module")
def drawn() -> dict[str, Picture]:
    """The pictures of a result that has figures for all of them."""
    return {one.name: one for one in of_result(cases.drawn_result())}


# --- the same figures --------------------------------------------------------------------------------------------


def test_a_result_with_all_figures_has_all_pictures(drawn: dict[str, Picture]) -> None:
    assert list(drawn) == ["ladder", "memory-phases", "memory-timeline", "tokens"]


def test_the_bars_of_the_phases_are_as_long_as_the_parts_are_large(drawn: dict[str, Picture]) -> None:
    picture, line = drawn["memory-phases"], cases.timeline()
    (limit,) = shapes(picture, gpu="H100-80GB")
    scale = (points(limit)[0][0] - 1) / (79 * GIB)
    for phase, end in zip(line.phases, line.ends(), strict=True):
        at = max(range(phase.first, end), key=lambda n: line.totals[n])
        bars = shapes(picture, phase=phase.name)
        whole = sum(float(bar.attrib["width"]) for bar in bars)
        assert whole == pytest.approx(line.totals[at] * scale, abs=0.1)
        own = {bar.attrib["data-part"]: bar for bar in bars}
        for part in line.parts:
            if part.bytes[at] > 0.02 * max(line.totals):
                assert float(own[part.name].attrib["width"]) == pytest.approx(part.bytes[at] * scale, abs=0.02)
                assert own[part.name].attrib["data-bytes"] == str(part.bytes[at])
        assert f"{phase.name} {size(line.totals[at])}" in picture.alt


def test_every_gpu_has_its_line_and_its_name(drawn: dict[str, Picture]) -> None:
    picture = drawn["memory-phases"]
    near, far = (points(shapes(picture, gpu=name)[0]) for name in ("L4", "H100-80GB"))
    assert near[0][0] == near[1][0]
    assert (near[0][0] - 1) / (far[0][0] - 1) == pytest.approx(22 / 79, abs=0.001)
    assert {"L4 22.00 GiB", "H100-80GB 79.00 GiB"} <= set(texts(picture))
    assert "22.00 GiB of L4, 79.00 GiB of H100-80GB" in picture.alt


def test_a_gpu_that_is_far_out_is_named_without_a_line_and_none_without_gpus() -> None:
    small = cases.memory(cases.timeline(0.01))
    (phases,) = (one for one in of_result(cases.drawn_result(memory=small)) if one.name == "memory-phases")
    assert shapes(phases, gpu="H100-80GB") == []
    assert "H100-80GB 79.00 GiB →" in texts(phases)
    (phases,) = (one for one in of_result(cases.drawn_result(memory=cases.memory(fits=()))) if "phases" in one.name)
    assert bearing(phases, "gpu") == []


def test_an_older_result_says_what_is_usable_of_one_gpu_only() -> None:
    fits = (
        Fit(gpu="A", count=1, outcome="fits", free_bytes=10 * GIB),
        Fit(gpu="B", count=2, outcome="fits", free_bytes=10 * GIB),
        Fit(gpu="C", count=2, outcome="fits", free_bytes=10 * GIB, usable_bytes=70 * GIB),
    )
    memory = cases.memory(fits=fits, process_bytes=50 * GIB)
    assert [(one.name, one.bytes) for one in limits(memory)] == [("A", 60 * GIB)]
    assert limits(cases.memory(fits=fits, process_bytes=None)) == ()


def test_without_a_timeline_there_is_one_bar_of_the_peak() -> None:
    memory = cases.memory(timeline=None)
    names = {one.name: one for one in of_result(cases.drawn_result(memory=memory))}
    assert "memory-timeline" not in names
    bars = shapes(names["memory-phases"], phase="the peak")
    assert sum(int(bar.attrib["data-bytes"]) for bar in bars) == memory.allocated_bytes
    (process,) = bearing(names["memory-phases"], "process")
    assert process.attrib["data-process"] == str(memory.process_bytes)


def test_the_timeline_is_as_high_as_what_is_alive(drawn: dict[str, Picture]) -> None:
    picture, line = drawn["memory-timeline"], cases.timeline()
    (mark,) = bearing(picture, "peak")
    assert mark.attrib["data-peak"] == str(line.peak)
    areas = bearing(picture, "part")  # the uppermost first, each down to the ground
    ground = max(y for area in areas for _, y in points(area))
    count = len(line.totals)
    left = min(x for x, _ in points(areas[0]))

    def height(area: ET.Element, moment: int) -> float:
        x = left + (WIDTH - left) * moment / (count - 1)
        edge = sorted(points(area)[1:-1])
        for (x0, y0), (x1, y1) in pairwise(edge):
            if x0 <= x + 0.051 and x <= x1 + 0.051 and x1 > x0:
                return ground - (y0 + (y1 - y0) * (min(max(x, x0), x1) - x0) / (x1 - x0))
        raise AssertionError(f"nothing at moment {moment}")

    whole = height(areas[0], line.peak)
    for moment in (0, 30, line.peak, 190, count - 1):
        assert height(areas[0], moment) / whole == pytest.approx(line.totals[moment] / line.totals[line.peak], abs=0.01)
    heights = [height(area, line.peak) for area in areas] + [0.0]
    by_name = {part.name: part.bytes[line.peak] for part in line.parts}
    for area, upper, lower in zip(areas, heights, heights[1:], strict=False):
        if area.attrib["data-part"] in by_name:
            share = by_name[area.attrib["data-part"]] / line.totals[line.peak]
            assert (upper - lower) / whole == pytest.approx(share, abs=0.005)
    assert f"peak {size(line.totals[line.peak])}, backward b" in texts(picture)
    assert {phase.name for phase in line.phases} <= set(texts(picture))


def test_small_parts_are_one_part_and_no_byte_is_lost(drawn: dict[str, Picture]) -> None:
    line = cases.timeline()
    at_peak = shapes(drawn["memory-phases"], phase="backward b")
    assert any("smaller parts" in bar.attrib["data-part"] for bar in at_peak)
    assert sum(int(bar.attrib["data-bytes"]) for bar in at_peak) == line.totals[line.peak]
    assert all(part.name in drawn["memory-phases"].alt for part in line.parts if part.bytes[line.peak])


def test_parts_of_one_name_are_added_and_a_single_moment_is_drawn() -> None:
    parts = tuple(TimelinePart(name="weights a", bytes=(n * GIB,)) for n in (1, 2))
    line = MemoryTimeline(phases=(TimelinePhase(name="all", first=0),), parts=parts, peak=0)
    phases, over_time = of_result(pair_result(runs=(), memory=cases.memory(line, fits=())))
    assert [bar.attrib["data-bytes"] for bar in shapes(phases, phase="all")] == [str(3 * GIB)]
    assert "weights a 3.00 GiB" in over_time.alt


def test_the_pills_are_filled_as_far_as_the_rungs_are_settled(drawn: dict[str, Picture]) -> None:
    result, picture = cases.drawn_result(), drawn["ladder"]
    pills = {(p.attrib["data-subject"], p.attrib["data-level"]): p for p in bearing(picture, "settled")}
    full = max(points(pill)[1][0] - points(pill)[0][0] for pill in pills.values())
    for subject in ("a", "b", "pair"):
        for rung in story.ladder_of(result, subject):
            assert ((subject, str(rung.level)) in pills) == (rung.settled > 0)
            if rung.settled:
                (start, _), (end, _) = points(pills[subject, str(rung.level)])
                assert (end - start) / full == pytest.approx(rung.settled / rung.total, abs=0.01)
                assert f"{rung.settled} of {rung.total}" in texts(picture)
                assert f"{rung.level} {rung.settled} of {rung.total}" in picture.alt
    assert sum(rung.total for s in ("a", "b", "pair") for rung in story.ladder_of(result, s)) == len(result.runs)


def test_the_bars_of_the_texts_are_as_long_as_the_tokens_are_many(drawn: dict[str, Picture]) -> None:
    bars = bearing(drawn["tokens"], "tokens")
    found = {(bar.attrib["data-text"], bar.attrib["data-subject"]): int(bar.attrib["data-tokens"]) for bar in bars}
    assert found == {(kind, "ab"[n]): count for kind, both in cases.TEXTS.items() for n, count in enumerate(both)}
    scales = [float(bar.attrib["width"]) / int(bar.attrib["data-tokens"]) for bar in bars]
    assert max(scales) - min(scales) < 0.001
    assert drawn["tokens"].alt.index("code A 410") < drawn["tokens"].alt.index("numbers A 96")


def test_a_single_model_has_no_other_side() -> None:
    both = cases.drawn_result()
    alone = both.model_copy(update={"b": None, "runs": tuple(run for run in both.runs if run.subject == "a")})
    names = {one.name: one for one in of_result(alone)}
    assert "B" not in texts(names["ladder"])
    assert "pair" not in texts(names["ladder"])
    assert {bar.attrib["data-subject"] for bar in bearing(names["tokens"], "tokens")} == {"a"}


def test_no_picture_without_figures() -> None:
    assert [one.name for one in of_result(pair_result(memory=None))] == ["ladder"]
    assert of_result(pair_result(memory=None, runs=())) == ()
    nothing = MemoryEstimate(level="simulated", method="trace", parts=(), assumptions=(), margin=0.0)
    assert of_result(pair_result(memory=nothing, runs=())) == ()


def test_the_frontier_has_the_bars_of_the_tables() -> None:
    batch, context = of_frontier(cases.frontier())
    assert (batch.name, context.name) == ("fit-batch", "fit-context")
    (sure,) = shapes(batch, gpu="L4", way="as asked", fits="43")
    (maybe,) = shapes(batch, gpu="L4", way="as asked", may_fit="47")
    (ended,) = shapes(batch, gpu="H200", way="as asked")
    assert float(sure.attrib["width"]) / float(ended.attrib["width"]) == pytest.approx(0.43, abs=0.001)
    assert float(maybe.attrib["x"]) == pytest.approx(float(sure.attrib["x"]) + float(sure.attrib["width"]), abs=0.02)
    assert float(maybe.attrib["width"]) / float(ended.attrib["width"]) == pytest.approx(0.04, abs=0.001)
    assert {"43 to 47", "≥ 100", "none", "not traced"} <= set(texts(batch))
    assert {"640 to 704", "≥ 65,536", "0 to 6"} <= set(texts(context))
    assert "As asked: H200 ≥ 100, L4 43 to 47. Checkpointing: L4 none, H200 not traced." in batch.alt
    assert of_frontier(cases.frontier().model_copy(update={"rows": ()})) == ()


def test_the_curves_of_a_way_are_lines_by_gpu_with_the_figures_of_the_tables() -> None:
    found = cases.curved()
    (picture,) = (one for one in of_frontier(found) if one.name.startswith("fit-frontier"))
    assert picture.name == "fit-frontier-as-asked"
    for row in found.rows:
        for point in row.curve:
            at = {"gpu": row.gpu, "way": "as asked", "context": str(point.context)}
            fits, may_fit = (point.batch.fits, point.batch.may_fit) if point.batch else (0, 0)
            told = [one.attrib for one in shapes(picture, **at)]
            assert [one["data-fits"] for one in told if "data-fits" in one] == [str(fits)] * bool(fits)
            reach = [one["data-may_fit"] for one in told if "data-may_fit" in one]
            assert reach == [str(may_fit)] * (may_fit > fits)
    # Both axes are logarithmic: 64 to 512 is as far as 512 to 4,096, 64 rows to 16 as far as 16 to 4.
    dots = [shapes(picture, gpu="H200", context=str(context), fits=str(n))[0] for context, n in cases.DOTS]
    x, y = ([float(dot.attrib[key]) for dot in dots] for key in "xy")
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.02)
    assert y[1] - y[0] == pytest.approx(y[2] - y[1], abs=0.02)
    assert {"H200", "L4", "64", "512"} <= set(texts(picture))
    assert "H200: 64 to 70 at 64, 16 at 512, 4 to 5 at 4,096." in picture.alt
    assert "L4: 3 to 5 at 64, not traced at 512, none at 4,096." in picture.alt
    assert "T4: none at 64." in picture.alt


def test_no_curve_that_ends_where_it_begins_is_drawn() -> None:
    found = cases.curved()
    short = tuple(row.model_copy(update={"curve": row.curve[:1]}) for row in found.rows)
    assert [one.name for one in of_frontier(found.model_copy(update={"rows": short}))] == ["fit-batch", "fit-context"]


def test_the_heat_maps_have_a_cell_for_each_pair() -> None:
    head = cases.matrix(tuple(f"model-{n}" for n in range(14)))
    tally = Tally.of(head)
    verdicts, memory, lengths = of_matrix(head, tally)
    for picture in (verdicts, memory, lengths):
        groups = bearing(picture, "pairs")
        assert sum(int(group.attrib["data-pairs"]) for group in groups) == len(head.cells)
        assert sum(group.attrib["d"].count("M") for group in groups) == len(head.cells)
    for outcome, count in tally.outcomes.items():
        (group,) = shapes(verdicts, kind=outcome.replace("-", " "))
        assert group.attrib["data-pairs"] == str(count)
        assert f"{outcome.replace('-', ' ')} {count} pairs" in verdicts.alt
    # 1, 2, 4 to 256 GiB in turn, in five steps of equal ratios: 1 and 2, 4 and 8, 16, 32 and 64, 128 and 256.
    steps = [group.attrib["data-pairs"] for group in bearing(memory, "pairs")]
    turns = [n % 9 for n in range(len(head.cells))]
    assert steps == [str(sum(map(turns.count, own))) for own in ((0, 1), (2, 3), (4,), (5, 6), (7, 8))]


def test_few_models_tell_their_figures_and_too_many_have_no_picture() -> None:
    head = cases.matrix(("one", "two", "three"))
    _, memory, lengths = of_matrix(head, Tally.of(head))
    assert {"1", "2", "4"} <= set(texts(memory))
    assert "two + three 4, one + three 2, one + two 1" in memory.alt
    assert "1.43" in texts(lengths)  # 1 / 0.7
    for count in (0, 1, MOST_MODELS + 1):
        head = cases.matrix(tuple(f"model-{n}" for n in range(count)))
        assert of_matrix(head, Tally.of(head)) == ()
