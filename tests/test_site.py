"""The documentation site, but for its build (`make site`): its menu, and a code's page beside `wirecheck explain`."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import cmarkgfm
import markdown
import pytest
import yaml
from cmarkgfm.cmark import Options

from tests.site_pages import FENCE
from wirecheck.cli_texts import explanation
from wirecheck.codes import CODES

ROOT = Path(__file__).parents[1]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
DOCS = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))


def in_nav(part: object) -> list[str]:
    """Every path of the menu."""
    if isinstance(part, str):
        return [part]
    below = part.values() if isinstance(part, dict) else part
    return [path for one in below for path in in_nav(one)]  # type: ignore[attr-defined]


@cache
def on_the_site(text: str) -> str:
    """As mkdocs renders it."""
    named = [next(iter(one)) if isinstance(one, dict) else one for one in CONFIG["markdown_extensions"]]
    settings = {name: one[name] for name, one in zip(named, CONFIG["markdown_extensions"], strict=True) if one != name}
    return markdown.markdown(text, extensions=named, extension_configs=settings)


def on_github(text: str) -> str:
    """As GitHub renders it."""
    return cmarkgfm.github_flavored_markdown_to_html(text, Options.CMARK_OPT_UNSAFE)


def words(html: str) -> str:
    """What a reader sees."""
    bare = re.sub(r'<a class="headerlink".*?</a>', "", html)
    bare = re.sub(r"<[^>]+>", "", re.sub(r"</(p|h\d|td|th|li)>", " ", bare))
    for entity, char in {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&amp;": "&"}.items():
        bare = bare.replace(entity, char)
    return " ".join(bare.split())


def test_the_menu_names_every_page_once_and_no_other() -> None:
    paths = in_nav(CONFIG["nav"])
    assert sorted(paths) == sorted(set(paths))
    assert [path for path in DOCS if path not in paths] == []
    assert [path for path in paths if not (ROOT / "docs" / path).is_file() and not (ROOT / path).is_file()] == []


def test_nothing_is_loaded_from_outside() -> None:
    assert CONFIG["theme"]["font"] is False
    assert not {"extra_javascript", "google_analytics", "repo_url", "site_url"} & set(CONFIG)
    assert CONFIG["plugins"] == ["search"]
    assert set(CONFIG["extra_css"]) <= {path.name for path in (ROOT / "docs").glob("*.css")}


@pytest.mark.parametrize("render", [on_the_site, on_github])
@pytest.mark.parametrize("code", sorted(CODES))
def test_a_code_s_page_says_what_explain_says(code: str, render) -> None:
    page = (ROOT / "docs" / "checks" / f"{CODES[code].family}.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    (section,) = [one for one in sections if one.startswith(f"{code}\n")]
    assert words(render(f"## {section}")) == " ".join(explanation(code).replace("`", "").split())


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_code_is_its_own_anchor_and_the_index_leads_there(code: str) -> None:
    family = CODES[code].family
    page = (ROOT / "docs" / "checks" / f"{family}.md").read_text(encoding="utf-8")
    assert f'id="{code.lower()}"' in on_the_site(page)
    assert f"(checks/{family}.md#{code.lower()})" in (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [path for path in DOCS if path not in ("cli.md", "schema.md")])
def test_a_page_has_the_same_parts_on_github_and_on_the_site(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    tags = {
        face.__name__: {
            tag: len(re.findall(rf"<{tag}[ >]", face(text))) for tag in ("table", "tr", "td", "li", "h2", "h3")
        }
        for face in (on_the_site, on_github)
    }
    assert tags["on_the_site"] == tags["on_github"]
    assert len(re.findall(r'<div class="[^"]*highlight', on_the_site(text))) == len(FENCE.findall(text))
