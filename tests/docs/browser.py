"""A page in a real browser without a window: what it said on its console and whom it asked for anything."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = os.environ.get("SYNCL_BROWSER") or next(filter(None, map(shutil.which, _NAMES)), None)
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps",
    "--virtual-time-budget=3000", "--enable-logging=stderr", "--dump-dom",
)  # fmt: skip


@dataclass(frozen=True)
class Visit:
    """What became of a page.

    Attributes:
        html: the page after its scripts ran.
        console: what it wrote to the console.
        hosts: hosts that the page asked anything of.
    """

    html: str
    console: list[str]
    hosts: set[str]


def visit(url: str, scratch: Path) -> Visit:
    """Open a page in a fresh profile and look at it for three seconds of its own time."""
    log = scratch / "network.json"
    options = (f"--user-data-dir={scratch / 'profile'}", f"--log-net-log={log}")
    done = subprocess.run([BROWSER, *_QUIET, *options, url], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    console = re.findall(r":CONSOLE(?::\d+|\(\d+\))\] (.*)", done.stderr)
    text = log.read_text()
    # The browser may be stopped before it closes the list.
    events = json.loads(text if text.rstrip().endswith("}") else text.rstrip().rstrip(",") + "]}")["events"]
    # Browsers ask their makers for things of their own; what a page asks for has its origin as initiator.
    asked = (event.get("params", {}) for event in events)
    urls = {str(asked_for["url"]) for asked_for in asked if "url" in asked_for and _is_of(url, asked_for)}
    hosts = {urlsplit(found).hostname or "" for found in urls if re.match(r"(https?|wss?):", found)}
    return Visit(done.stdout, console, hosts)


def _is_of(page: str, asked_for: dict[str, object]) -> bool:
    place = urlsplit(page)
    return str(asked_for.get("initiator", "")).rstrip("/") == f"{place.scheme}://{place.netloc}"
