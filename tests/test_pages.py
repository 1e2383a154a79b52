"""The pages in a browser: read by axe, at three widths, in both colour schemes, on paper, and clicked through.

Chromium runs without a network: each request that is not for a file is refused and recorded.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.factories import pair_result
from tests.matrices import hostile, ran
from tests.strangers import faces
from wirecheck.matrix_records import Matrix, MatrixCause, MatrixCell, MatrixModel
from wirecheck.matrix_tally import BEST, MOST_GRID, Tally
from wirecheck.schema import Level, PairResult, Verdict
from wirecheck.views import html, markdown
from wirecheck.views import matrix as matrix_view

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REPORTS = Path(__file__).parents[1] / "reports"
MOST_BYTES = 400_000
WIDTHS = (390, 1024, 1600)

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: make browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def opened(browser: Browser, **options) -> tuple[BrowserContext, list[str]]:
    """A context, and the addresses that pages in it ask for beside files."""
    asked: list[str] = []
    context = browser.new_context(**options)

    def judged(route) -> None:
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    context.route("**/*", judged)
    return context, asked


def pages() -> dict[str, str]:
    """Every kind of page, as text; those of hostile names among them."""
    made = {f"hostile {name}": face.html for name, face in faces('<b>a|b`</b> "x" @c ' + "long" * 30).items()}
    made["a result that blocks"] = html.render(pair_result())
    unproven = Verdict(outcome="unproven", strength=Level.INSPECTED, because=("values (b) was skipped",))
    made["an unproven result"] = html.render(pair_result(verdict=unproven))
    made["a matrix"] = large_page(6, 6)
    return made | {"demo": demo()}


def demo() -> str:
    return html.render(PairResult.model_validate_json((REPORTS / "demo.json").read_text()))


def large(models: int) -> Matrix:
    """Every pair of so many models, with long names and long reasons."""
    names = [f"an-organisation__a-model-of-some-{n}B-Instruct" for n in range(models)]
    cause = [MatrixCause(code=code, subject="a", claim="It cannot be read. " * 9) for code in ("CFG07", "WGT01")]
    found = {"outcome": "incompatible", "causes": tuple(cause), "why": ("CFG07 (a): it cannot be read. " * 9,)}
    cells = [
        MatrixCell(a=a, b=b, memory=10**9 * (n + 1), **(found if n % 3 else {"outcome": "compatible"}))
        for n, (a, b) in enumerate((a, b) for i, a in enumerate(names) for b in names[i + 1 :])
    ]
    named = tuple(MatrixModel(name=name, ref=name, commit="sha256:" + "0" * 64, hidden_size=4096) for name in names)
    return hostile().model_copy(update={"models": named, "cells": tuple(cells)})


def large_page(models: int, links: int) -> str:
    found = large(models)
    tally = Tally.of(found)
    linked = {(cell.a, cell.b): f"pairs/{cell.a}%2B{cell.b}.html" for cell in tally.best[:links]}
    return matrix_view.render_html(found, tally, linked)


# --- size --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(REPORTS.glob("*.html")), ids=lambda path: path.name)
def test_a_page_of_the_repository_is_small(path):
    assert path.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("models", [32, MOST_GRID])
def test_the_largest_grid_is_a_small_page(models):
    page = large_page(models, BEST)
    assert page.count("<td") > models * models
    assert len(page.encode()) < MOST_BYTES


def test_what_a_square_says_where_it_is_pointed_at_is_left_out_of_a_large_grid():
    assert 'title="' in large_page(12, 0)
    assert 'title="' not in large_page(MOST_GRID, 0)


# --- what markdown cannot say ------------------------------------------------------------------------------------


def test_tables_charts_and_contents_have_names():
    report = "# T\n\n" + "".join(
        f"## S {n}\n\n| | a |\n|---|---|\n| 1 | 2 |\n\n```text\n<b>\n```\n\n" for n in range(4)
    )
    page = html.page(report.replace("## S 3", "## S 2"), title="t", mood="report")
    assert re.findall(r"<caption id=\"T\d\">(.*?)</caption>", page) == ["S 0", "S 1", "S 2", "S 2, table 2"]
    assert page.count('<th scope="col">a</th>') == 4
    assert "<th></th>" not in page
    assert page.count("drawn as text") == 4
    links = re.findall(r'<li><a href="#(.*?)">', page)
    assert links == ["s-0", "s-1", "s-2", "s-2-1"]
    assert all(f'id="{link}"' in page for link in links)
    assert "<nav" not in html.page("# T\n\n## One\n\n## Two\n", title="t", mood="report")


# --- in a browser ------------------------------------------------------------------------------------------------


def overflow(page: Page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@in_browser
def test_pages_are_accessible_and_fit_every_width(browser, tmp_path):
    faults: list[str] = []
    for scheme in ("light", "dark"):
        context, asked = opened(browser, color_scheme=scheme)
        tab = context.new_page()
        for name, text in pages().items():
            path = tmp_path / "page.html"
            path.write_text(text)
            tab.goto(path.as_uri())
            for width in WIDTHS if scheme == "light" else ():  # no measure is of a scheme
                tab.set_viewport_size({"width": width, "height": 900})
                if overflow(tab) > 0:
                    faults.append(f"{name}, {scheme}: {width} px is not wide enough")
            rules = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}  # nothing else is of a scheme
            found = Axe().run(tab, options=rules).response["violations"]
            faults += [f"{name}, {scheme}: {one['id']}: {one['nodes'][0]['html']}" for one in found]
        assert asked == []
        context.close()
    assert faults == []


@in_browser
def test_axe_would_find_what_is_wrong(browser):
    context, _ = opened(browser)
    tab = context.new_page()
    tab.set_content("<html><body style='color: #aaa; background: #fff'>faint <img src='data:,'></body></html>")
    found = {one["id"] for one in Axe().run(tab).response["violations"]}
    assert {"color-contrast", "image-alt", "html-has-lang"} <= found
    context.close()


@in_browser
def test_on_paper_everything_is_open_light_and_within_the_sheet(browser, tmp_path):
    context, _ = opened(browser, color_scheme="dark", viewport={"width": 703, "height": 1000})  # A4 less its margins
    tab = context.new_page()
    folded = f"# T\n\n{chr(0xE000)}open-a{chr(0xE001)}\n\nwithin\n\n{chr(0xE000)}close{chr(0xE001)}\n"
    pieces = {"open-a": "<details><summary>more</summary>", "close": "</details>"}
    for name, text in (
        ("folded", html.page(folded, title="t", mood="report", pieces=pieces)),
        ("pair", demo()),
        ("matrix", large_page(12, 3)),
    ):
        path = tmp_path / f"{name}.html"
        path.write_text(text)
        tab.goto(path.as_uri())
        if name == "folded":
            assert not tab.get_by_text("within").is_visible()
        tab.emulate_media(media="print")
        if name == "folded":
            assert tab.get_by_text("within").is_visible()
            assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not tab.locator(".skip").is_visible()
        assert overflow(tab) <= 0, name
        paper = tab.pdf(prefer_css_page_size=True)
        assert paper.startswith(b"%PDF")
        assert 1 <= len(re.findall(rb"/Type\s*/Page\b", paper)) < 40
        tab.emulate_media(media="screen")
    context.close()


@in_browser
def test_a_page_is_walked_by_keyboard(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(large_page(12, 3))
    context, _ = opened(browser, viewport={"width": 390, "height": 900}, java_script_enabled=True)
    tab = context.new_page()
    tab.goto(path.as_uri())
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "Report"
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert not tab.get_by_role("link", name="Every pair").is_visible()
    tab.keyboard.press("Enter")
    assert tab.get_by_role("link", name="Every pair").is_visible()
    square = tab.locator(".grid td a").first
    assert re.match(r"C: .+ \+ .+", square.get_attribute("aria-label") or "")
    square.focus()
    assert tab.evaluate("document.activeElement.matches(':focus-visible')")
    context.close()


@in_browser
def test_a_real_matrix_is_clicked_through_without_script_or_network(browser, four_models, tmp_path):
    made, head = ran(four_models, ("one", "two"))
    tally = Tally.of(head)
    (tmp_path / "pairs").mkdir()
    links = {}
    for pair, result in made.results([(cell.a, cell.b) for cell in tally.best]):
        stem = "+".join(pair)
        (tmp_path / "pairs" / f"{stem}.html").write_text(html.render(result))
        (tmp_path / "pairs" / f"{stem}.md").write_text(markdown.render(result))
        links[pair] = f"pairs/{'%2B'.join(pair)}.html"
    path = tmp_path / "m.html"
    path.write_text(matrix_view.render_html(head, tally, links))
    context, asked = opened(browser, java_script_enabled=False, viewport={"width": 1024, "height": 900})
    tab = context.new_page()
    tab.goto(path.as_uri())
    assert tab.locator(".grid td a").count() == 2
    tab.get_by_role("link", name="C: one + two").first.click()
    assert tab.url == (tmp_path / "pairs" / "one%2Btwo.html").as_uri().replace("%25", "%")
    assert tab.locator("h1").inner_text() == "wirecheck: one + two"
    targets = [(link.get_attribute("href") or "").removeprefix("#") for link in tab.locator("nav a").all()]
    assert len(targets) >= html.LONG
    for target in targets:
        tab.locator(f"nav a[href='#{target}']").click()
        assert tab.url.endswith(f"#{target}")
        assert tab.locator(f"[id='{target}']").count() == 1
    for _ in (*targets, tab):
        tab.go_back()
    assert tab.url == path.as_uri()
    tab.get_by_role("link", name="one + two", exact=True).click()
    assert "/pairs/" in tab.url
    assert asked == []
    context.close()
