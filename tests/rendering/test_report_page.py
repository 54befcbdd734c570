"""Reports of results with planted failures: what the page says, and how a real browser takes it."""

import base64
import dataclasses
import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from syncl.classes import DETECTION_CLASSES, TRACKING_CLASSES
from syncl.commands.evaluate import evaluate
from syncl.commands.generate import generate
from syncl.commands.render import render
from syncl.commands.report import report
from syncl.data.frame_objects import FrameObjects
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.results.submission import TrackingSubmission
from syncl.errors import SynclError

FRAMES = 6
SWITCH_AT = 3
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE_S = 120


@dataclasses.dataclass(frozen=True)
class Planted:
    """Two runs over one scene: `good` repeats the annotations, `bad` has one failure of each kind."""

    world: Path
    good: Path
    bad: Path
    scene: str
    switched: str
    missed: str


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    root = tmp_path_factory.mktemp("report")
    world = root / "world"
    generate(world, train_scenes=0, val_scenes=1, keyframes=FRAMES, width=160, height=96, seed=5, workers=1)
    index = open_nuscenes(world, "v1.0-mini")
    (scene,) = index.split_scenes("mini_val")
    samples = [index.sample(row) for row in index.scene_samples(scene)]
    # Two objects of one class or two that count in every frame: near, and seen by a sensor.
    steady = None
    for sample in samples:
        truth = sample.annotations
        names = np.array([DETECTION_CLASSES[label] if label >= 0 else "" for label in truth.labels])
        near = np.hypot(*truth.boxes[:, :2].T) < 35
        counts = near & np.isin(names, TRACKING_CLASSES) & (truth.num_lidar_pts + truth.num_radar_pts > 0)
        here = {int(number): names[row] for row, number in enumerate(truth.identities) if counts[row]}
        steady = here if steady is None else {number: steady[number] for number in steady.keys() & here}
    assert steady and len(steady) >= 2, "the generated scene must hold two objects that count in all frames"
    (switched, first), (missed, second) = sorted(steady.items())[:2]
    for name in ("good", "bad"):
        writer = TrackingSubmission([sample.token for sample in samples])
        for number, sample in enumerate(samples):
            truth = sample.annotations
            points = truth.num_lidar_pts + truth.num_radar_pts
            rows = [
                row
                for row, label in enumerate(truth.labels)
                if label >= 0
                and DETECTION_CLASSES[label] in TRACKING_CLASSES
                and points[row] > 0
                and (name == "good" or truth.identities[row] != missed)
            ]
            boxes = np.nan_to_num(truth.boxes[rows])
            names = [DETECTION_CLASSES[label] for label in truth.labels[rows]]
            identities = [int(identity) for identity in truth.identities[rows]]
            if name == "bad":
                if number >= SWITCH_AT:
                    identities = [900 if identity == switched else identity for identity in identities]
                boxes = np.concatenate([boxes, [[-12.0, -3, 1, 0.8, 0.8, 1.8, 0, 0, 0]]])
                names, identities = [*names, "pedestrian"], [*identities, 950]
            scores = np.full(len(boxes), 0.9)
            objects = FrameObjects(boxes, tuple(names), scores, tuple(map(str, identities)))
            writer.add(sample.token, objects, sample.global_from_vehicle)
        folder = root / name
        writer.save(folder / "results.json")
        evaluate(folder / "results.json", data=world, output=folder / "metrics.json")
    render(root / "bad" / "results.json", data=world, output=root / "bad" / "tracks.mp4", width=480)
    log = [{"step": step, "group": "train", "total": 40 - step / 10, "box": 20.0} for step in (25, 50, 75)]
    (root / "bad" / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    recipe = {"name": "a <b>bold</b> recipe", "training": {"seed": 3}, "model": {}}
    (root / "bad" / "recipe.json").write_text(json.dumps(recipe))
    return Planted(world, root / "good", root / "bad", scene, first, second)


@pytest.fixture(scope="module")
def page(planted) -> Path:
    path = planted.bad.parent / "page" / "report.html"
    report((str(planted.good), str(planted.bad)), output=path, data=planted.world, failures=3)
    return path


class Reader(HTMLParser):
    """Collects tables as rows of texts, tags with their attributes, and the text of headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self._table: str | None = None
        self._in: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._in.append(tag)
        if tag == "table":
            kind = dict(attributes)["class"]
            self._table = kind if kind not in self.tables else f"{kind} again"
            self.tables[self._table] = []
        if tag == "tr":
            self.tables[self._table].append([])
        if tag in ("td", "th"):
            self.tables[self._table][-1].append("")
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append("")

    def handle_endtag(self, tag):
        while self._in and self._in.pop() != tag:
            pass

    def handle_data(self, data):
        if "td" in self._in or "th" in self._in:
            self.tables[self._table][-1][-1] += data
        elif self._in and self._in[-1] in ("h1", "h2", "h3", "h4", "span") and self.headings:
            self.headings[-1] += data
        if "style" not in self._in:
            self.words.append(data)


def test_the_page_says_what_the_metrics_say(planted, page):
    reader = Reader(page.read_text())
    rows = {row[0]: row[1:] for row in reader.tables["metrics"]}
    assert rows[""] == ["good", "bad"]
    good, bad = (json.loads((folder / "metrics.json").read_text()) for folder in (planted.good, planted.bad))
    for title, metric, digits in (
        ("AMOTA", "amota", 3),
        ("recall", "recall", 3),
        ("missed", "fn", 0),
        ("false positives", "fp", 0),
        ("identity switches", "ids", 0),
    ):
        assert rows[title][0] == f"{good[metric]:.{digits}f}"
        assert rows[title][1].split()[0] == f"{bad[metric]:.{digits}f}"
    assert (good["ids"], good["fp"], good["fn"]) == (0, 0, 0)
    assert (bad["ids"], bad["fp"], bad["fn"]) == (1, FRAMES, FRAMES)
    assert rows["identity switches"][1] == "1 +1"
    assert rows["AMOTA"][1].split()[1].startswith("\u2212")
    classes = {row[0]: row[1:] for row in reader.tables["classes again"]}
    heads = classes[""]
    for name, recall in bad["label_metrics"]["recall"].items():
        shown = classes[name][heads.index("RECALL")]
        assert shown == ("\u2013" if recall != recall else f"{recall:.3f}")
    assert classes["all"][heads.index("GT")] == f"{np.nansum(list(bad['label_metrics']['gt'].values())):.0f}"


def test_headings_are_shown_by_how_vehicles_stand(page):
    reader = Reader(page.read_text())
    rows = {row[0]: row[1:] for row in reader.tables["headings"]}
    assert rows[""] == ["found", "median error (\u00b0)", "within 10\u00b0", "half turns"]
    found = 0
    for kind in ("aligned", "turned"):
        count, *errors = rows[f"good, {kind}"]
        found += int(count)
        # The run repeats the annotations.
        assert errors == (["0.0", "100%", "0"] if int(count) else ["\u2013"] * 3)
    assert found > 0 and len(rows) == 5
    assert "Headings of vehicles" in reader.headings


def test_causes_stand_side_by_side(planted, page, tmp_path):
    reader = Reader(page.read_text())
    assert "good, bad: without detections.json" in " ".join(reader.words)
    assert reader.tables["causes misses"] == [
        ["", "good", "bad"],
        ["never held", "0 0 %", f"{FRAMES} 100 %"],
        ["all", "0", f"{FRAMES}"],
    ]
    # What the tracks show, as detections: the detector did not find what they miss.
    content = json.loads((planted.bad / "results.json").read_text())
    for boxes in content["results"].values():
        for box in boxes:
            box["detection_name"] = box.pop("tracking_name")
            box["detection_score"] = box.pop("tracking_score")
            box["attribute_name"] = ""
            del box["tracking_id"]
    detections = tmp_path / "seen.json"
    detections.write_text(json.dumps(content))
    path = tmp_path / "page.html"
    run = f"bad={planted.bad / 'results.json'},{detections}"
    report((run,), output=path, data=planted.world, failures=0)
    tables = Reader(path.read_text()).tables
    causes = {kind: table[1:-1] for kind, table in tables.items() if kind.startswith("causes")}
    assert causes["causes misses"] == [["never detected", f"{FRAMES} 100 %"]]
    assert causes["causes switches"] == [["died early", "1 100 %"]]
    # The planted pedestrian rides with the vehicle, past objects of other classes.
    assert {cause for cause, _ in causes["causes false_boxes"]} <= {"wrong class", "beside", "nothing there"}
    assert sum(int(cell.split()[0]) for _, cell in causes["causes false_boxes"]) == FRAMES
    # Beside a run without detections, what either cannot tell is not a count of none.
    other = f"alone={planted.bad / 'results.json'}"
    report((run, other), output=path, data=planted.world, failures=0, overwrite=True)
    assert Reader(path.read_text()).tables["causes misses"][1:-1] == [
        ["never detected", f"{FRAMES} 100 %", "\u2013"],
        ["never held", "\u2013", f"{FRAMES} 100 %"],
    ]


def test_the_gallery_shows_the_planted_failures(planted, page):
    text = " ".join(" ".join(Reader(page.read_text()).words).split())
    switched, missed = planted.switched.replace("_", " "), planted.missed.replace("_", " ")
    assert f"{planted.scene}, frame {SWITCH_AT + 1}: track" in text
    assert f"had it for {SWITCH_AT} frames, track 900 has it for {FRAMES - SWITCH_AT} frames." in text
    assert re.search(rf"{switched}: \d+ \u2192 900", text)
    assert f"{missed}: missed for {FRAMES} frames" in text and "never found" in text
    assert f"pedestrian 950: false for {FRAMES} frames" in text and "mean score 0.90" in text
    assert "(1 of 1 switches)" in text and "(no switches)" in text
    assert "synthetic world" in text


def test_failures_of_chosen_classes_alone(planted, tmp_path):
    path = tmp_path / "few.html"
    report(
        (str(planted.bad),),
        output=path,
        data=planted.world,
        failures=3,
        classes=("pedestrian",),
        min_score=0.95,
    )
    text = " ".join(" ".join(Reader(path.read_text()).words).split())
    assert "Failures of pedestrian are shown. Tracks of a mean score of 0.95 on count" in text
    # The planted pedestrian scores 0.9, and no switch is of a pedestrian.
    assert "pedestrian 950" not in text and "(no switches)" in text and "pedestrian: missed" in text


def test_pictures_show_the_place(planted, page):
    tags = Reader(page.read_text()).tags
    images = [attributes for tag, attributes in tags if tag == "img"]
    # A switch has two, and the two other failures of `bad` one each; `good` has none.
    assert len(images) == 4
    for attributes in images:
        kind, data = attributes["src"].split(",", 1)
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert kind == "data:image/jpeg;base64" and picture.shape == (350, 560, 3) and picture.std() > 5
        assert attributes["alt"]
    missed = next(image for image in images if "missed for" in image["alt"])
    data = base64.b64decode(missed["src"].split(",", 1)[1])
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).astype(int)
    red = (picture[..., 2] > 200) & (picture[..., 1] < 130) & (picture[..., 0] < 130)
    assert red.sum() > 100, "the missed object's red box"


def test_what_comes_from_files_cannot_become_markup(page):
    text = page.read_text()
    assert "<b>bold</b>" not in text and "&lt;b&gt;bold&lt;/b&gt;" in text


def test_nothing_is_loaded_from_elsewhere(page):
    for tag, attributes in Reader(page.read_text()).tags:
        assert tag not in ("script", "iframe", "object", "embed")
        for name in ("src", "href", "poster", "data", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value[:60])
    assert "url(" not in page.read_text() and "@import" not in page.read_text()


def test_a_large_video_stays_beside_the_page(planted, tmp_path):
    path = planted.bad.parent / "beside.html"
    report((str(planted.bad),), output=path, data=planted.world, failures=0, embed_mb=0.001)
    videos = [attributes for tag, attributes in Reader(path.read_text()).tags if tag == "video"]
    assert [video["src"] for video in videos] == ["bad/tracks.mp4"]
    assert "too large to be part of this page" in path.read_text()
    report((str(planted.bad),), output=path, failures=0, embed_mb=float("inf"), overwrite=True)
    (video,) = [attributes for tag, attributes in Reader(path.read_text()).tags if tag == "video"]
    assert video["src"].startswith("data:video/mp4;base64,")


def test_without_data_metrics_are_those_on_file(planted, tmp_path):
    path = tmp_path / "report.html"
    report((str(planted.bad), f"same={planted.good / 'metrics.json'}"), output=path)
    reader = Reader(path.read_text())
    bad = json.loads((planted.bad / "metrics.json").read_text())
    rows = {row[0]: row[1:] for row in reader.tables["metrics"]}
    assert rows["AMOTA"][0] == f"{bad['amota']:.3f}"
    assert "headings" not in reader.tables
    assert "No pictures" in path.read_text() and "No curves" in path.read_text()
    assert not any(tag == "img" for tag, _ in reader.tags)


def test_runs_on_other_annotations_are_told_apart(planted, tmp_path):
    other = json.loads((planted.good / "metrics.json").read_text())
    other["label_metrics"]["gt"] = dict.fromkeys(other["label_metrics"]["gt"], 3.0)
    (tmp_path / "other.json").write_text(json.dumps(other))
    report((str(planted.bad), str(tmp_path / "other.json")), output=tmp_path / "report.html")
    assert "figures cannot be compared" in (tmp_path / "report.html").read_text()
    unknown = json.loads((planted.good / "metrics.json").read_text())
    del unknown["label_metrics"]["gt"]
    (tmp_path / "unknown.json").write_text(json.dumps(unknown))
    for alike in (planted.good, tmp_path / "unknown.json"):
        report((str(planted.bad), str(alike)), output=tmp_path / "same.html", overwrite=True)
        assert "figures cannot be compared" not in (tmp_path / "same.html").read_text()


def test_runs_by_other_distances_are_told_apart(planted, tmp_path):
    other = json.loads((planted.good / "metrics.json").read_text())
    other["cfg"]["dist_th_tp"] = 3.0
    (tmp_path / "other.json").write_text(json.dumps(other))
    report((str(planted.bad), str(tmp_path / "other.json")), output=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "evaluated by different distances" in text and "Official nuScenes tracking metrics" not in text


def test_a_page_of_own_classes_and_scores_says_by_what_it_judges(planted, page, tmp_path):
    assert "Tracks count whose mean score reaches the class's score of best MOTA" in page.read_text()
    own = {"car": "vehicle.car", "pedestrian": "human.pedestrian.adult"}
    classes = {name: {"range_m": 30, "categories": [category]} for name, category in own.items()}
    evaluation = {"track_distance_m": 3}
    file = tmp_path / "dataset.yaml"
    file.write_text(json.dumps({"format": "syncl-dataset-1", "classes": classes, "evaluation": evaluation}))
    results = json.loads((planted.bad / "results.json").read_text())
    for token, boxes in results["results"].items():
        results["results"][token] = [box for box in boxes if box["tracking_name"] in own]
    # A sample of another scene, which naming the scene leaves out, as for syncl evaluate.
    results["results"]["of another scene"] = []
    (tmp_path / "results.json").write_text(json.dumps(results))
    output = tmp_path / "report.html"
    report(
        (str(tmp_path / "results.json"),),
        output=output,
        data=planted.world,
        dataset=file,
        scenes=(planted.scene,),
        failures=1,
        min_score=0.4,
    )
    text = output.read_text()
    assert "Official nuScenes tracking metrics" not in text and "Cars, trucks" not in text
    assert "best MOTA." not in text.split('id="causes"')[1]
    assert text.count("mean score reaches 0.4") == 2 and text.count("less than 3 m apart") == 2


def test_metrics_of_other_results_are_refused(planted, tmp_path):
    mixed = f"{planted.bad / 'results.json'},{planted.good / 'metrics.json'}"
    with pytest.raises(SynclError, match=r"results: the metrics on file say AMOTA .* of other results"):
        report((f"results={mixed}",), output=tmp_path / "report.html", data=planted.world)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "report.pdf"}, r"report\.pdf; a report is written as HTML"),
        ({"failures": 51}, r"failures: 51; choose between 0 and 50"),
        ({"embed_mb": -1.0}, r"embed_mb: -1"),
        ({"scenes": ("scene-0103",), "split": "val"}, r"--split, --scenes: without --data"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    output = tmp_path / options.pop("output", "report.html")
    with pytest.raises(SynclError, match=message):
        report(("run",), output=output, **options)


def test_an_earlier_page_is_kept(planted, page):
    before = page.read_bytes()
    with pytest.raises(SynclError, match=r"report\.html: this file already exists"):
        report((str(planted.good),), output=page)
    assert page.read_bytes() == before


def find_browser() -> str | None:
    """The browser to test with: SYNCL_BROWSER, or a Chromium or Chrome in PATH."""
    return os.environ.get("SYNCL_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)


class Browser:
    """A headless Chromium, driven over a pipe by the DevTools protocol."""

    def __init__(self, program: str, profile: Path) -> None:
        read_commands, self._commands = os.pipe()
        self._answers, write_answers = os.pipe()
        # The browser reads file 3 and writes file 4. High numbers first: neither may be overwritten.
        theirs = [fcntl.fcntl(handle, fcntl.F_DUPFD, 100) for handle in (read_commands, write_answers)]
        flags = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
            "--disable-background-networking --disable-component-update --disable-dev-shm-usage "
            "--remote-debugging-pipe"
        )
        redirect = f'exec "$0" "$@" 3<&{theirs[0]} 4>&{theirs[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", redirect, program, *flags.split(), f"--user-data-dir={profile}", "about:blank"],
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for handle in (read_commands, write_answers, *theirs):
            os.close(handle)
        self._rest = b""
        self._number = 0
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def call(self, method: str, **parameters: object) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict:
        ends = time.monotonic() + PATIENCE_S
        while b"\0" not in self._rest:
            assert time.monotonic() < ends, "the browser does not answer"
            assert self._process.poll() is None, f"the browser ended with {self._process.returncode}"
            if select.select([self._answers], [], [], 1.0)[0]:
                self._rest += os.read(self._answers, 1 << 20)
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def open(self, page: Path, width: int, dark: bool = False) -> None:
        """Load a page and wait until it has everything."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression; promises are waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def named(self, *methods: str) -> list[dict]:
        """Parameters of the events of these names since the page was opened."""
        return [event["params"] for event in self.events if event.get("method") in methods]


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium or Chrome in PATH or SYNCL_BROWSER; Debian's package is chromium")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    try:
        yield opened
    finally:
        opened.close()


def complaints(browser: Browser) -> list[object]:
    """Everything a browser has to say against a page: errors, exceptions, failed or foreign requests."""
    said = [
        entry for entry in browser.named("Log.entryAdded") if entry["entry"]["level"] in ("error", "warning")
    ]
    said += [
        call for call in browser.named("Runtime.consoleAPICalled") if call["type"] in ("error", "assert")
    ]
    said += browser.named("Runtime.exceptionThrown", "Network.loadingFailed")
    requests = [sent["request"]["url"] for sent in browser.named("Network.requestWillBeSent")]
    pages = [url for url in requests if url.startswith("file:")]
    assert pages, "the browser must have told of the page itself"
    return said + [url[:90] for url in requests if not url.startswith("data:") and url != pages[0]]


VIDEO = """(async () => {
    const video = document.querySelector('video');
    const h264 = video.canPlayType('video/mp4; codecs="avc1.42E01E"');
    for (let waited = 0; waited < 20000 && video.readyState < 1 && !video.error; waited += 50)
        await new Promise(done => setTimeout(done, 50));
    return {h264, ready: video.readyState, seconds: video.duration, error: video.error?.message ?? null};
})()"""


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (400, True)])
def test_a_browser_has_nothing_against_the_page(planted, page, browser, width, dark):
    browser.open(page, width, dark)
    images = browser.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth])")
    assert len(images) == 4 and all(complete and wide == 560 for complete, wide in images)
    amota = json.loads((planted.bad / "metrics.json").read_text())["amota"]
    rows = browser.evaluate(
        "[...document.querySelectorAll('table.metrics tr')].map(r => [...r.cells].map(c => c.innerText))"
    )
    assert rows[1][0] == "AMOTA" and rows[1][2].split()[0] == f"{amota:.3f}"
    # Charts have a size and lines; nothing makes the page itself wider than the window.
    assert browser.evaluate("document.querySelectorAll('svg.chart path.line').length") >= 4
    assert browser.evaluate("[...document.querySelectorAll('svg.chart')].every(c => c.clientHeight > 80)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(18, 21, 26)" if dark else "rgb(255, 255, 255)")
    assert complaints(browser) == []


def test_long_names_of_classes_leave_bars_their_room(tmp_path, browser):
    names = ("MOBILE_PEDESTRIAN_CROSSING_SIGN", "dog", "x" * 60)
    labels = {metric: dict.fromkeys(names, 0.9) for metric in ("amota", "recall", "ids")}
    (tmp_path / "metrics.json").write_text(json.dumps({"label_metrics": labels, "amota": 0.9}))
    report((str(tmp_path),), output=tmp_path / "report.html")
    for width in (1400, 400):
        browser.open(tmp_path / "report.html", width)
        assert browser.evaluate(
            "[...document.querySelectorAll('dl.bars')].every(l => l.scrollWidth <= l.clientWidth)"
        )
        assert browser.evaluate("[...document.querySelectorAll('.bar span')].every(b => b.clientWidth > 20)")


def test_a_browser_can_play_the_videos_of_a_page(planted, page, browser):
    beside = planted.bad.parent / "played.html"
    if not beside.exists():
        report((str(planted.bad),), output=beside, failures=0, embed_mb=0.001)
    for file in (page, beside):
        browser.open(file, 1400)
        video = browser.evaluate(VIDEO)
        if not video["h264"]:
            pytest.skip("this browser is built without H.264")
        assert video["error"] is None and video["ready"] >= 1
        assert video["seconds"] == pytest.approx(FRAMES / 2, abs=0.6)
    assert not [entry for entry in browser.named("Log.entryAdded") if entry["entry"]["level"] == "error"]


def test_the_browser_tests_would_notice(tmp_path, browser):
    """A page with every fault looked for above."""
    broken = tmp_path / "broken.html"
    broken.write_text(
        "<!doctype html><img src='gone.png'><script>console.error('oops'); nowhere();</script>"
        "<link rel=stylesheet href='http://127.0.0.1:9/style.css'>"
    )
    browser.open(broken, 800)
    said = json.dumps(complaints(browser))
    for fault in ("gone.png", "oops", "nowhere", "127.0.0.1:9"):
        assert fault in said
