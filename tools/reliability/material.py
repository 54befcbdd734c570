"""What the harnesses work on: a small world, a recording, models and results, and every command on them.

Commands run in forks of a process that has imported everything, so that kills and full disks meet the work
and not the imports.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

STEPS = 4
SETTINGS = (
    "model.input.image_size=[64,96]",
    "model.detector.layers=1",
    "model.detector.queries=24",
    "model.detector.proposals.count=8",
    f"training.steps={STEPS}",
    "training.checkpoint_every=2",
    "training.log_every=1",
    "training.optimiser.warmup_steps=0",
)
RECIPE = "detr3d_synthetic"
TRACKER = "mutr3d_detr3d_synthetic"
MODELS = ("detector", "tracker")
WRITE_NOTHING = {"models", "info", "recipes"}


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Attributes:
        name: of the command, and of what it does where there are several.
        kills: how many of 266 it gets.
        output: what it writes, below its folder.
        arguments: for an output; options that allow it to be replaced, or to go on, come behind.
        same: whether its bytes are the same at every run.
        again: behind the arguments, when it runs a second time on what a kill has left.
    """

    name: str
    kills: int
    output: str
    arguments: Callable[[Path], list[str]]
    same: bool = True
    again: tuple[str, ...] = ("--overwrite",)


def cases(material: Path) -> list[Case]:
    """Every command that writes."""
    world, rig = str(material / "world"), str(material / "rig")
    tracker, detector = (str(material / name / "model.safetensors") for name in reversed(MODELS))
    results, metrics = str(material / "results.json"), str(material / "metrics.json")
    details = str(material / "details.json")
    tiny = ("--train-scenes", "2", "--val-scenes", "1", "--keyframes", "3", "--width", "96", "--height", "64")
    settings = ["--set", *SETTINGS]
    given = f"run={results},{metrics},{details}"
    plan = str(material / "plan.json")
    data = ["--data", world]
    view = ["--data", world, "--scene", "scene-0103", "--frames", "2", "--cost-steps", "0"]
    boxes, drive = (
        [str(material / "detections.json")],
        ["--data", str(material / "drive"), "--split", "mini_train"],
    )
    still, shy = (str(material / f"{name}.safetensors") for name in ("still", "shy"))
    exported = str(material / "exported")
    alone = ["--threads", "1"]
    resuming = ("--resume", "--overwrite")

    def case(
        name: str,
        kills: int,
        output: str,
        *arguments: str,
        same: bool = True,
        again: tuple[str, ...] = ("--overwrite",),
    ) -> Case:
        return Case(name, kills, output, lambda out: [*arguments, "--output", str(out)], same, again)

    return [
        Case("train", 20, "run", lambda out: ["train", RECIPE, *data, "--output", str(out), *settings]),
        case("train-motion", 12, "model.safetensors", "train-motion", still, *boxes, *drive, "--steps", "2"),
        case("track", 34, "results.json", "track", tracker, *data, *alone, again=resuming),
        case(
            "track detections",
            20,
            "results.json",
            "track",
            "--detections",
            *boxes,
            *drive,
            *alone,
            again=resuming,
        ),
        case("track an export", 12, "results.json", "track", exported, *data, *alone, again=resuming),
        case("track a recording", 6, "tracks", "track", tracker, "--recording", rig, *alone),
        Case("generate", 18, "made", lambda out: ["generate", str(out), *tiny, "--workers", "2"]),
        case("evaluate", 28, "metrics.json", "evaluate", results, *data, same=False),
        case("render", 24, "tracks.mp4", "render", results, *data, "--width", "320"),
        Case(
            "convert", 22, "model.pth", lambda out: ["convert", detector, str(out), "--to", "detr3d"], False
        ),
        case("export", 8, "exported", "export", shy, same=False),
        case("report", 16, "page.html", "report", given, *data, same=False),
        case("plot", 10, "plots", "plot", given, same=False),
        case("diagnose", 12, "looks", "diagnose", tracker, *view, same=False),
        case("profile", 6, "costs.png", "profile", detector, "--recording", rig, "--frames", "2", same=False),
        case("check-rig", 10, "rig.png", "check-rig", rig, "--width", "320"),
        Case("prepare", 4, "world/.syncl", lambda out: ["prepare", str(out.parent)], False, ()),
        case("experiment", 3, "series", "experiment", plan, *data, same=False, again=()),
        case("demo", 1, "demo", "demo", "--scenes", "1", "--keyframes", "3", same=False),
    ]


def make_material(folder: Path) -> Path:
    """Worlds, models and results in a folder; what is there already is kept."""
    done = folder / "done"
    if done.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    import syncl
    from syncl.checkpoints.model_file import load_model, save_model
    from syncl.data.nuscenes.clips.dataset import SceneStream
    from syncl.data.nuscenes.clips.frames import ImageOptions
    from syncl.data.nuscenes.index import open_nuscenes
    from syncl.data.recording.recording_writer import write_recording
    from syncl.trackers import Cc3dtConfig

    world = folder / "world"
    syncl.generate(world, train_scenes=2, val_scenes=2, keyframes=4, width=96, height=64, workers=1)
    for name, recipe in zip(MODELS, (RECIPE, TRACKER)):
        short = [*SETTINGS, "training.steps=1"]
        if name == "tracker":
            # Whatever it sees is a track.
            scores = (f"model.tracker.{name}_score=0" for name in ("birth", "keep", "output"))
            short += ["training.data.clip_length=2", *scores]
        syncl.train(recipe, data=world, output=folder / name, set=tuple(short))
    model = folder / "tracker" / "model.safetensors"
    syncl.track(model, data=world, output=folder / "results.json", threads=1)
    syncl.evaluate(
        folder / "results.json", data=world, output=folder / "metrics.json", details=folder / "details.json"
    )
    # VeloLSTM learns from objects that are seen for ten key frames.
    syncl.generate(
        folder / "drive", train_scenes=2, val_scenes=0, keyframes=11, width=96, height=64, workers=1
    )
    syncl.track(
        folder / "detector",
        data=folder / "drive",
        split="mini_train",
        task="detection",
        output=folder / "detections.json",
        threads=1,
    )
    looking = replace(load_model(folder / "detector" / "model.safetensors").config, tracker=Cc3dtConfig())
    save_model(folder / "still.safetensors", looking.build().state_dict(), looking)
    # Untrained, it would be sure of everything alike, and any rounding would change the order.
    shy = load_model(model).config
    shy = replace(shy, tracker=replace(shy.tracker, birth_score=0.5, keep_score=0.5, output_score=0.5))
    save_model(folder / "shy.safetensors", shy.build().state_dict(), shy)
    syncl.export(folder / "shy.safetensors", output=folder / "exported")
    stream = SceneStream(open_nuscenes(world, "v1.0-mini"), "scene-0103", ImageOptions(size=(64, 96)))
    write_recording(stream, folder / "rig")
    short = [setting.replace(f"steps={STEPS}", "steps=2") for setting in SETTINGS]
    arms = [{"name": name, "recipe": TRACKER} for name in ("first", "second")]
    plan = {"name": "tiny", "seeds": [0], "set": [*short, "training.data.clip_length=2"], "arms": arms}
    (folder / "plan.json").write_text(json.dumps(plan))
    done.touch()
    return folder


def place(case: Case, material: Path, folder: Path) -> Path:
    """The output of a case in a new folder, with what it needs beside it."""
    if case.name == "prepare":
        shutil.copytree(material / "world", folder / "world", ignore=shutil.ignore_patterns(".syncl"))
    return folder / case.output


def run(arguments: list[str], said: Path, before: Callable[[], None] = lambda: None) -> int:
    """Start a command in a fork, in a session of its own; returns its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setsid()
        with said.open("wb", buffering=0) as text:
            os.dup2(text.fileno(), 1)
            os.dup2(text.fileno(), 2)
        sys.argv = ["syncl", *arguments]
        before()
        from syncl.commands.main import main

        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        # As at the end of a program, but without the harness' own ends.
        import atexit

        atexit._run_exitfuncs()
        os._exit(status)
    return 0


def wait(pid: int, limit_s: float) -> int | None:
    """The status of a process, negative for a signal; None if it does not end in time."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


def session(leader: int) -> list[int]:
    """Processes of a session that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def digest(path: Path) -> str:
    """Of a file's or a whole folder's contents; empty if there is none."""
    if not path.exists():
        return ""
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    total = hashlib.sha256()
    for file in files:
        total.update(str(file.relative_to(path.parent)).encode() + file.read_bytes())
    return total.hexdigest()


def leftovers(folder: Path) -> list[str]:
    """Hidden files and folders of work that is not done."""
    marks = (".partial", ".replaced", ".lock", ".validation-")
    return [str(path) for path in folder.rglob(".*") if any(mark in path.name for mark in marks)]


def import_everything() -> None:
    """Once, before the forks."""
    import importlib
    import pkgutil

    import syncl

    for module in pkgutil.walk_packages(syncl.__path__, "syncl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
