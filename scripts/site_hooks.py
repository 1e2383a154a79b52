"""What mkdocs does beside rendering docs/: the files of the repository that its pages link to are in the site, too.

docs/ is written for GitHub, where a page links to `../reports/demo.md` or `../CONTRIBUTING.md`. Here such a file gets a
place of the same name in the site: as a page where the nav names it, as the HTML that lies beside it where it is a
report, else as it is. Links are written anew, so that a page has one text for both. A link to nothing stays as it is,
and the strict build fails on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = "docs/"
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^(```.*?^```\s*?$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that the nav names outside docs/, then all that any page links to."""
    for name in in_nav(config.nav):
        if files.get_file_from_path(name) is None and (ROOT / name).is_file():
            files.append(added(name, config))
    for page in [*files.documentation_pages()]:
        for name in {target for target, _ in links(place_of(page.src_uri, files), page.content_string)}:
            wanted = place_in_site(name, files)
            if wanted is not None and files.get_file_from_path(wanted) is None:
                files.append(added(wanted, config))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs names them
    """The page with its links out of docs/ as links within the site."""
    here = place_of(page.file.src_uri, files)

    def moved(found: re.Match[str]) -> str:
        name = target_of(here, found[1])
        wanted = name and place_in_site(name, files)
        if not wanted or files.get_file_from_path(wanted) is None:
            return found[0]
        return relpath(wanted, str(PurePosixPath(page.file.src_uri).parent)) + (found[2] or "")

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)


def in_nav(nav: Any) -> Iterator[str]:
    """Every path of the nav."""
    match nav:
        case str():
            yield nav
        case dict():
            for below in nav.values():
                yield from in_nav(below)
        case list():
            for below in nav:
                yield from in_nav(below)


def added(name: str, config: MkDocsConfig) -> File:
    """A file of the repository, which has the same name in the site."""
    return File.generated(config, name, abs_src_path=str(ROOT / name))


def place_of(src_uri: str, files: Files) -> str:
    """Where a page of the site lies in the repository."""
    file = files.get_file_from_path(src_uri)
    return src_uri if file is not None and file.generated_by else f"{DOCS}{src_uri}"


def links(here: str, markdown: str) -> Iterator[tuple[str, str]]:
    """(file in the repository, anchor) of every relative link of a page that lies there; not of code."""
    for part in FENCE.split(markdown):
        if not part.startswith("```"):
            for found in LINK.finditer(part):
                name = target_of(here, found[1])
                if name:
                    yield name, found[2] or ""


def target_of(here: str, link: str) -> str | None:
    """The file in the repository that a link of the page `here` means; None where there is none."""
    name = normpath(str(PurePosixPath(here).parent / link))
    return name if not name.startswith("..") and (ROOT / name).exists() else None


def place_in_site(name: str, files: Files) -> str | None:
    """Where a file of the repository is in the site: None for a folder that has no page of its own."""
    if name.startswith(DOCS):
        return name.removeprefix(DOCS)
    if files.get_file_from_path(name) is not None:
        return name
    if (ROOT / name).is_dir():
        return f"{name}/README.md" if (ROOT / name / "README.md").is_file() else None
    page = PurePosixPath(name)
    html = str(page.with_suffix(".html"))
    return html if page.suffix == ".md" and (ROOT / html).is_file() else name
