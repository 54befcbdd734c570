"""The built site, where `mkdocs build` was run: it fetches nothing from elsewhere and browsers like it."""

import functools
import http.server
import re
import threading
from collections.abc import Iterator

import pytest

from .browser import BROWSER, visit
from .documented import ROOT

SITE = ROOT / "site"
pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").is_file(),
    reason="no site here: pip install -e '.[docs]', then mkdocs build",
)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    handler = functools.partial(QuietHandler, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_no_page_names_anything_to_fetch_from_elsewhere():
    pages = list(SITE.rglob("*.html"))
    assert len(pages) > 25
    foreign = re.compile(
        r"""<(?:script|img|iframe|source|video|link)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^"'>]*""",
        re.IGNORECASE,
    )
    for page in pages:
        assert foreign.findall(page.read_text()) == [], page.relative_to(SITE)
    for sheet in SITE.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet.name


def test_the_pages_made_from_code_are_there():
    assert "mutr3d_petr_v99_320x800_syncl" in (SITE / "recipes.html").read_text()
    assert "--freeze-encoder" in (SITE / "commands.html").read_text()
    assert "track_positions" in (SITE / "api" / "detectors.html").read_text()
    assert "class GroundGrid" in re.sub(r"<[^>]+>", "", (SITE / "add-detector.html").read_text())


@pytest.mark.skipif(BROWSER is None, reason="needs chromium or chrome")
@pytest.mark.parametrize("page", ["index", "add-detector", "recipes", "api/detectors"])
def test_a_browser_has_nothing_to_complain_of(address, page, tmp_path):
    seen = visit(f"{address}/{page}.html", tmp_path)
    assert "</html>" in seen.html and "md-search" in seen.html
    assert seen.console == []
    assert seen.hosts == {"127.0.0.1"}
