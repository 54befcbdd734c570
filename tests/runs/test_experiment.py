"""Paired experiments: plans, resuming, refusing, reporting."""

import json
import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from own_world import as_recordings
from rig import TINY_RUN
from syncl.commands.experiment import experiment
from syncl.commands.main import main
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig
from syncl.errors import SynclError
from syncl.interrupts import Interrupted, StopRequest
from syncl.models import MODELS
from syncl.runs.experiment.child_commands import Commands, Usage
from syncl.runs.experiment.plan import read_plan
from syncl.runs.experiment.run import run_digest, run_plan
from syncl.runs.experiment.run_records import read_records, record_path, table_path, write_table
from syncl.runs.experiment.summary import markdown, paired, series_results, spread, write_summary

PLAN = {
    "name": "tiny",
    "seeds": [0, 1],
    "set": [
        "training.steps=2",
        "training.data.batch_size=1",
        "training.data.clip_length=2",
        "training.checkpoint_every=1",
        *TINY_RUN,
    ],
    "reference": "baseline",
    "arms": [
        {"name": "baseline", "recipe": "mutr3d_detr3d_synthetic"},
        {"name": "syncl", "recipe": "mutr3d_detr3d_synthetic", "strategy": "syncl"},
    ],
}


def write(folder: Path, **changes) -> Path:
    path = folder / "plan.json"
    path.write_text(json.dumps(PLAN | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "different"),
        ({"arms": [PLAN["arms"][0] | {"seeds": ["x"]}]}, r"arms\[0\]: seeds: .*whole numbers"),
        ({"arms": [PLAN["arms"][0] | {"reference": "nobody"}]}, "'nobody' is none of the arms"),
        ({"reference": "nobody"}, "'nobody' is none of the arms baseline, syncl"),
        ({"arms": []}, "at least one arm"),
        ({"colour": 1}, "unknown field 'colour'"),
        ({"arms": [{"name": "a"}]}, "field 'recipe' is missing"),
        ({"arms": [{"name": "a", "recipe": "nothing"}]}, "there is no recipe 'nothing'"),
        ({"arms": [{"name": "a/b", "recipe": "x"}]}, "file name"),
        ({"arms": [{"name": "a", "recipe": "x", "strategy": "magic"}]}, "magic"),
        ({"arms": [PLAN["arms"][0], PLAN["arms"][0]]}, "same name"),
        ({"set": ["training.colour=1"]}, "colour"),
        ({"init": "none.safetensors"}, "none.safetensors is no model file .* ship with syncl: demo, any-rig"),
        ({"features": "features"}, "the image encoder is trained"),
        ({"name": 5}, "name: 5; give a text"),
        ({"split": ["val"]}, r"split: \['val'\]; give a text"),
        ({"scenes": "all"}, "scenes: 'all'; give a whole number, 0 for all"),
        ({"scenes": -1}, "scenes: -1; give a whole number"),
        ({"set": "training.steps=5"}, "set: 'training.steps=5'; give a list of texts"),
        ({"set": [5]}, r"set: \[5\]; give a list of texts"),
        ({"seeds": [True]}, r"seeds: \[True\]; give one or more different whole numbers"),
        ({"seeds": [-1]}, r"seeds: \[-1\]"),
        ({"seeds": [2**32]}, r"seeds: \[4294967296\]; give .* to 2\*\*32 - 1"),
        ({"set": ["training.seed=5"]}, "set: training.seed=5: every run has a seed of its own"),
        ({"arms": [PLAN["arms"][0] | {"set": ["training.seed=5"]}]}, r"arms\[0\]: set: training.seed=5"),
        ({"arms": [PLAN["arms"][0] | {"set": None}]}, r"arms\[0\]: set: None; give a list of texts"),
        ({"arms": [PLAN["arms"][0] | {"recipe": {}}]}, r"arms\[0\]: recipe: {}; give a text"),
        ({"arms": [PLAN["arms"][0] | {"strategy": ["syncl"]}]}, r"arms\[0\]: strategy \['syncl'\]"),
        ({"init": 7}, r"arms\[0\]: init: 7; give a text"),
        ({"arms": [PLAN["arms"][0] | {"recipe": "os:getcwd"}]}, "os:getcwd'; a plan names no code to run"),
        ({"arms": [PLAN["arms"][0] | {"recipe": "mine.py:go"}]}, "mine.py:go'; a plan names no code to run"),
    ],
)
def test_a_bad_plan_is_refused_before_any_work(tmp_path, changes, said):
    if "arms" in changes and "reference" not in changes and changes["arms"]:
        changes = changes | {"reference": changes["arms"][0]["name"]}
    with pytest.raises(SynclError, match=said):
        read_plan(write(tmp_path, **changes))


def test_a_plan_names_recipe_files_from_its_folder(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: mutr3d_detr3d_synthetic\ntraining: {steps: 7}\n")
    plan = read_plan(write(tmp_path, set=[], arms=[PLAN["arms"][0] | {"recipe": "mine.yaml"}]))
    assert plan.arms[0].recipe == str(tmp_path / "mine.yaml")
    assert plan.resolved(plan.arms[0], 0).training.steps == 7


def test_a_plan_names_what_to_start_from_as_commands_do(tmp_path):
    (tmp_path / "runs" / "first").mkdir(parents=True)
    own = tmp_path / "runs" / "first" / "model.safetensors"
    own.write_bytes(b"")
    for init, file in (
        ("runs/first", own),
        ("runs/first/model.safetensors", own),
        ("demo", MODELS["demo"].path),
    ):
        assert {arm.init for arm in read_plan(write(tmp_path, init=init)).arms} == {file}


def test_a_plan_that_is_missing_or_not_json(tmp_path):
    with pytest.raises(SynclError, match="no such file"):
        read_plan(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(SynclError, match="not valid JSON"):
        read_plan(tmp_path / "bad.json")


def test_spread_by_hand():
    assert spread([0.5, float("nan")]).text(2) == "nan ± nan", "no class was there to be scored"
    assert spread([1.0, 2.0, 3.0]).text(2) == "2.00 ± 1.00"
    assert spread([0.5]).text(3, signed=True) == "+0.500"


METRICS = ("amota", "amotp", "recall", "mota", "ids", "fp", "fn")


def fake(path: Path, amota: float, digest: str = "x", **tracking: float) -> None:
    metrics = dict.fromkeys(METRICS, amota)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        orjson.dumps(
            {
                "digest": digest,
                "synthetic": True,
                "metrics": metrics,
                "training": {"cpu_s": 4.0, "steps": 2, "peak_bytes": 2e9, "resumed": False},
                "tracking": {"cpu_s": 8.0, "frames": 80, "peak_bytes": 1e9} | tracking,
                "hardware": {"device": "x"},
                "commit": "abc",
            }
        )
    )


def test_the_report_pairs_by_seed(tmp_path):
    plan = read_plan(write(tmp_path))
    fake(record_path(tmp_path, "baseline", 0), 0.30)
    fake(record_path(tmp_path, "baseline", 1), 0.40)
    fake(record_path(tmp_path, "syncl", 1), 0.45)
    results = series_results(plan, tmp_path)
    assert [
        round(b["metrics"]["amota"] - a["metrics"]["amota"], 6)
        for a, b in paired(results, "baseline", "syncl")
    ] == [0.05]
    text = markdown(plan, results)
    assert "1 run missing" in text and "synthetic world" in text
    assert "| baseline | 2 | 0.350 ± 0.071 |" in text
    assert "| 2.00 | 2.00 | 0.100 | 1.00 |" in text
    assert "| syncl | baseline | 1 | +0.050 |" in text
    summary = write_summary(plan, tmp_path)
    report, picture = summary.report, summary.picture
    assert report.read_text() == text and picture.read_bytes().startswith(b"\x89PNG")


def test_the_cost_of_tracking_is_that_of_whole_runs(tmp_path):
    """Not of what was left of one after a kill."""
    plan = read_plan(write(tmp_path))
    fake(record_path(tmp_path, "baseline", 0), 0.3, resumed=False)
    fake(record_path(tmp_path, "baseline", 1), 0.3, resumed=True, cpu_s=0.8, peak_bytes=3e9)
    fake(record_path(tmp_path, "syncl", 1), 0.3, resumed=True, cpu_s=0.8)
    text = markdown(plan, series_results(plan, tmp_path))
    assert "| 2.00 | 2.00 | 0.100 | 3.00 |" in text and "| 2.00 | 2.00 | (resumed) | 1.00 |" in text


def test_arms_may_have_seeds_and_references_of_their_own(tmp_path):
    third = {"name": "other", "recipe": "mutr3d_petr_synthetic", "seeds": [1], "reference": "syncl"}
    plan = read_plan(write(tmp_path, arms=[*PLAN["arms"], third]))
    assert [(arm.name, seed) for arm, seed in plan.runs] == [
        ("baseline", 0), ("syncl", 0), ("baseline", 1), ("syncl", 1), ("other", 1),
    ]  # fmt: skip
    fake(record_path(tmp_path, "syncl", 1), 0.45)
    fake(record_path(tmp_path, "other", 1), 0.40)
    assert "| other | syncl | 1 | -0.050 |" in markdown(plan, series_results(plan, tmp_path))


def test_the_table_of_a_series_stands_for_its_files(tmp_path):
    plan = read_plan(write(tmp_path))
    for number, (arm, seed) in enumerate(plan.runs):
        fake(record_path(tmp_path, arm.name, seed), 0.1 * number, digest=f"{number}")
    before = read_records(tmp_path)
    summary = write_summary(plan, tmp_path)
    table, report = summary.table, summary.report
    text = report.read_text()
    lines = table.read_text().splitlines()
    assert len(lines) == 5 and "abc" in lines[0] and not any("abc" in line for line in lines[1:])
    for path in (tmp_path / "results").iterdir():
        path.unlink()
    named = {(arm, seed): {**record, "arm": arm, "seed": seed} for (arm, seed), record in before.items()}
    assert read_records(tmp_path) == named
    write_summary(plan, tmp_path)
    assert report.read_text() == text and table.read_text().splitlines() == lines
    fake(record_path(tmp_path, "syncl", 1), 0.9)
    assert read_records(tmp_path)["syncl", 1]["metrics"]["amota"] == 0.9, "a newer file goes before the table"


def test_the_table_keeps_types_and_entries_that_not_all_runs_have(tmp_path):
    records = {
        ("a", 0): {
            "arm": "a",
            "seed": 0,
            "x": {"one": 1, "gone": None, "list": [2]},
            "y": True,
            "only": 3,
        },
        ("a", 1): {"arm": "a", "seed": 1, "x": {"one": 1.0, "list": [2]}, "y": 1},
        ("b", 0): {"arm": "b", "seed": 0, "x": {"one": 1, "list": [2]}, "y": {"z": 0.1}},
    }
    write_table(tmp_path, records)
    found = read_records(tmp_path)
    assert found == records and [type(r["x"]["one"]) for r in found.values()] == [int, float, int]


@pytest.mark.parametrize(
    ("line", "said"), [("{", "line 2: not valid JSON"), ('{"arm": "a"}', "line 2: a run needs")]
)
def test_a_broken_table_is_named(tmp_path, line, said):
    table_path(tmp_path).write_text("{}\n" + line)
    with pytest.raises(SynclError, match=said):
        read_records(tmp_path)


def test_an_old_series_is_reported_without_its_starting_points_and_recipes(tmp_path):
    arms = [{"name": "old", "recipe": "a_recipe_of_last_year", "init": "gone.safetensors"}]
    path = write(tmp_path, arms=arms, reference="old", seeds=[0])
    fake(record_path(tmp_path, "old", 0), 0.3)
    assert "| old | 1 | 0.300 |" in write_summary(read_plan(path, to_run=False), tmp_path).report.read_text()
    with pytest.raises(SynclError, match=r"gone\.safetensors is no model file"):
        read_plan(path)


def test_no_results_is_an_error(tmp_path):
    with pytest.raises(SynclError, match="no results"):
        write_summary(read_plan(write(tmp_path)), tmp_path)


@pytest.fixture
def here(monkeypatch) -> None:
    """Trains and tracks in this process, which has imported torch; a new one does only what is light."""
    run = Commands.run

    def run_here(self: Commands, arguments: list[str], journal: Path) -> Usage:
        if arguments[0] == "evaluate":
            usage = run(self, arguments, journal)
            assert usage.cpu_s > 0 and usage.wall_s > 0 and usage.peak_bytes > 1e7
            return usage
        main(arguments)
        return Usage(1.0, 1.0, 10**9)

    monkeypatch.setattr(Commands, "run", run_here)


@pytest.mark.usefixtures("here")
def test_a_run_is_done_once_and_never_replaced_by_other_settings(small_world, tmp_path):
    arms = [PLAN["arms"][1]]
    frozen = ["training.data.augmentation=null", 'training.unroll.frozen=["detector.image_encoder"]']
    held_out = {"features": "features", "evaluation_data": str(small_world), "set": PLAN["set"] + frozen}
    plan = read_plan(write(tmp_path, arms=arms, seeds=[0], reference="syncl", **held_out))
    run_plan(plan, small_world, tmp_path / "out", jobs=1)
    assert len(list((tmp_path / "features").glob("*/features.json"))) == 1
    path = record_path(tmp_path / "out", "syncl", 0)
    record = orjson.loads(path.read_bytes())
    assert record["synthetic"] and record["seed"] == 0 and record["training"]["peak_bytes"] == 10**9
    assert record["recipe"]["training"]["steps"] == 2 and 0 <= record["metrics"]["amota"] <= 1
    assert record["digest"] == run_digest(plan, plan.arms[0], 0, small_world)
    before = path.stat().st_mtime_ns
    run_plan(plan, small_world, tmp_path / "out", jobs=1)
    assert path.stat().st_mtime_ns == before
    write_summary(plan, tmp_path / "out")
    path.unlink()
    run_plan(plan, small_world, tmp_path / "out", jobs=1)
    assert not path.exists(), "what the table has is done"
    other = read_plan(write(tmp_path, arms=arms, seeds=[0], reference="syncl", set=["training.steps=3"]))
    with pytest.raises(SynclError, match="other settings"):
        run_plan(other, small_world, tmp_path / "out", jobs=1)
    nowhere = read_plan(write(tmp_path, arms=arms, seeds=[0], reference="syncl", evaluation_data="gone"))
    with pytest.raises(SynclError, match="the plan's evaluation_data"):
        run_plan(nowhere, small_world, tmp_path / "out", jobs=1)


def test_a_run_notes_whether_its_tracking_was_whole(small_world, tmp_path, monkeypatch):
    def run(self: Commands, _: list[str], journal: Path) -> Usage:
        journal.parent.mkdir(parents=True, exist_ok=True)
        (journal.parent / "recipe.json").write_text("{}")
        (journal.parent / "metrics.json").write_text('{"amota": 0.5}')
        return Usage(1.0, 1.0, 1)

    monkeypatch.setattr(Commands, "run", run)
    finished = tmp_path / "out" / "runs" / "baseline_seed1" / "results.json.scenes" / "scene-a.json"
    finished.parent.mkdir(parents=True)
    finished.touch()
    run_plan(read_plan(write(tmp_path)), small_world, tmp_path / "out", jobs=1)
    notes = {run: record["tracking"]["resumed"] for run, record in read_records(tmp_path / "out").items()}
    assert [run for run, resumed in notes.items() if resumed] == [("baseline", 1)] and len(notes) == 4


def test_a_run_of_other_settings_is_made_anew_without_what_the_error_names(
    small_world, tmp_path, monkeypatch
):
    def run(self: Commands, arguments: list[str], journal: Path) -> Usage:
        folder = journal.parent
        if arguments[0] == "train":
            assert "--resume" not in arguments
            (folder / "checkpoints" / "step_00000002").mkdir(parents=True)
            (folder / "recipe.json").write_text("{}")
        (folder / "metrics.json").write_text(json.dumps(dict.fromkeys(METRICS, 0.5)))
        return Usage(1.0, 1.0, 1)

    monkeypatch.setattr(Commands, "run", run)
    out, few = tmp_path / "out", {"arms": PLAN["arms"][:1], "seeds": [0]}
    experiment(write(tmp_path, **few), data=small_world, output=out)
    with pytest.raises(SynclError) as refused:
        experiment(write(tmp_path, **few, set=["training.steps=3"]), data=small_world, output=out)
    named = [Path(word.rstrip(",")) for word in str(refused.value).split() if word.startswith(f"{out}/")]
    for path in named:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    summary = experiment(write(tmp_path, **few, set=["training.steps=3"]), data=small_world, output=out)
    assert len(named) == 3 and summary.results["baseline"][0]["training"]["steps"] == 3


def test_a_failed_run_is_named_with_its_reason(small_world, tmp_path, monkeypatch):
    """Of a command in the place of the training, which ends as commands do."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 'error: no scene has 9 key frames' >&2\nexit 2\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    arms = [{"name": "broken", "recipe": "mutr3d_detr3d_synthetic"}]
    plan = read_plan(write(tmp_path, arms=arms, seeds=[0], reference="broken"))
    with pytest.raises(SynclError, match=r"1 of 1 run failed.*broken seed 0: .*9 key frames.*--report-only"):
        run_plan(plan, small_world, tmp_path / "out", jobs=1)
    assert not record_path(tmp_path / "out", "broken", 0).exists()


def test_own_classes_reach_every_command_and_the_digest(tmp_path, monkeypatch):
    """Of recordings: no version, and the split that they have; the classes are those of --dataset."""
    world = tmp_path / "yard"
    generate_world(world, WorldConfig(1, 1, keyframes=2, width=96, height=64, seed=2, layout="own"))
    data = as_recordings(world, tmp_path / "drives")
    shutil.move(data / "dataset.yaml", tmp_path / "mine.yaml")
    program, log = tmp_path / "program", tmp_path / "asked"
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexit 2\n')
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    path, out = write(tmp_path, seeds=[0]), tmp_path / "out"
    with pytest.raises(SynclError, match="2 of 2 runs failed"):
        experiment(path, data=data, output=out, dataset=tmp_path / "mine.yaml")
    for line in log.read_text().splitlines():
        assert line.startswith("-m syncl train ") and f"--dataset {tmp_path / 'mine.yaml'}" in line
    plan = read_plan(path, data=data)
    assert plan.split == "val"
    digests = [run_digest(plan, plan.arms[0], 0, data, tmp_path / "mine.yaml")]
    (tmp_path / "mine.yaml").write_text((tmp_path / "mine.yaml").read_text().replace("45", "44"))
    digests.append(run_digest(plan, plan.arms[0], 0, data, tmp_path / "mine.yaml"))
    assert digests[0] != digests[1], "another range is another experiment"


def test_a_second_ctrl_c_leaves_no_command_unasked(tmp_path, monkeypatch):
    ask, asked = subprocess.Popen.terminate, []

    def terminate(process):
        asked.append(process.pid)
        if len(asked) == 2:
            raise KeyboardInterrupt
        ask(process)

    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    monkeypatch.setattr(subprocess.Popen, "terminate", terminate)
    begin, commands = time.monotonic(), Commands()
    with ThreadPoolExecutor(3) as pool:
        with pytest.raises(Interrupted), commands:
            runs = [pool.submit(commands.run, [name], tmp_path / name) for name in "abc"]
            while len(list(tmp_path.iterdir())) < 4 or not all(run.running() for run in runs):
                time.sleep(0.05)
            time.sleep(0.5)
            raise Interrupted(signal.SIGINT)
        ended = [type(run.exception()) for run in runs]
    assert ended == [SynclError] * 3 and len(set(asked)) == 3
    assert time.monotonic() - begin < 50


def test_signals_are_not_raised_amid_waits_for_runs(small_world, tmp_path, monkeypatch):
    """An exception there may leave a future locked, for which its thread waits for ever."""
    seen = []

    def run(self: Commands, arguments: list[str], journal: Path) -> Usage:
        seen.append(type(signal.getsignal(signal.SIGINT)))
        os.kill(os.getpid(), signal.SIGINT)
        raise SynclError("stopped")

    monkeypatch.setattr(Commands, "run", run)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="stopped by Ctrl-C; the same command goes on where it was"):
        experiment(write(tmp_path, arms=PLAN["arms"][:1], seeds=[0]), data=small_world, output=tmp_path / "o")
    assert seen == [StopRequest] and signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_stopped_experiment_ends_what_runs_and_starts_no_other(small_world, tmp_path, monkeypatch, jobs):
    """The command in the place of the first training presses Ctrl-C, and would go on for a minute."""
    from syncl.runs.experiment import run

    program, log = tmp_path / "program", tmp_path / "started"
    program.write_text(
        f'#!/bin/sh\necho "$SYNCL_LIVES_WITH" >> {log}\nsleep 0.5\nkill -INT $PPID\nexec sleep 60\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    plan = read_plan(write(tmp_path))
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run.run_plan(plan, small_world, tmp_path / "out", jobs=jobs)
    assert time.monotonic() - begin < 50
    assert log.read_text().split() == [str(os.getpid())] * jobs, "of four runs, those under way"
    assert not (tmp_path / "out" / "results").exists()
