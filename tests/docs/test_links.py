"""Links between the repository's pages, as the forge shows them: files as they lie, headings by its rule."""

import re
from collections import Counter
from pathlib import Path

import pytest

from .documented import ROOT

FOLDERS = ("docs", "src", "results", "tests", "benchmarks", "examples", ".github")
PAGES = [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in sorted((ROOT / folder).rglob("*.md")))]


def anchors(page: Path) -> set[str]:
    """What can stand behind # in a link to a page: words of a heading in small letters, joined by hyphens."""
    found, seen = set(), Counter[str]()
    for line in without_code(page).splitlines():
        found |= set(re.findall(r'\b(?:id|name)="([^"]+)"', line))
        if heading := re.match(r"#{1,6} +(.+)", line):
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1]).replace("`", "").strip().lower()
            slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[str]:
    text = re.sub(r"``?[^`\n]*``?(?!\])", "", without_code(page))
    found = re.findall(r"\]\(([^)\s]+)[^)]*\)", text)
    found += re.findall(r'<(?:img|a)[^>]* (?:src|href)="([^"]+)"', text)
    return [link for link in found if not re.match(r"https?:|mailto:", link)]


def dead(page: Path) -> list[str]:
    """Links of a page that lead nowhere."""
    found = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        named = anchor and target.suffix == ".md" and target.is_file()
        if not target.exists() or (named and anchor not in anchors(target)):
            found.append(link)
    return found


def test_there_are_links_to_follow() -> None:
    assert len(PAGES) > 20 and sum(len(links(page)) for page in PAGES) > 80


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead_on_the_forge(page: Path) -> None:
    assert dead(page) == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n[x](#a-b-c) [y](#nowhere) [z](none.md) `[code](no.md)`\n")
    assert dead(page) == ["#nowhere", "none.md"]
