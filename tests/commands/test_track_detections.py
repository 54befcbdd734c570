"""`syncl track --detections`: tracks of anybody's detections."""

import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rig import SMALL, tiny_encoder
from syncl.checkpoints.model_file import load_model, save_model
from syncl.classes import DETECTION_CLASSES, TRACKING_CLASSES
from syncl.commands.main import main
from syncl.commands.track import track
from syncl.commands.train_motion import train_motion
from syncl.data.frame_objects import FrameObjects
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.results.submission import DetectionSubmission
from syncl.errors import SynclError
from syncl.runs.train_motion import train_model_motion
from syncl.trackers.cc_3dt import AppearanceConfig, Cc3dtConfig
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.training.motion_model import MotionTrainingConfig

SPLIT = {"version": "v1.0-mini", "split": "mini_train"}
FRAMES, SCENES = 10, 2
TRACKERS = ("greedy", "greedy-observed", "cc-3dt", "cc-3dt++")


@pytest.fixture(scope="module")
def world(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables without images, and a detector that sees every annotated object, the surer the nearer it is."""
    root = tmp_path_factory.mktemp("detections")
    shutil.copytree(small_world, root / "world", ignore=shutil.ignore_patterns("samples", "sweeps", ".syncl"))
    index = open_nuscenes(root / "world", SPLIT["version"])
    rows = [row for scene in index.split_scenes(SPLIT["split"]) for row in index.scene_samples(scene)]
    submission = DetectionSubmission([index.sample_token(row) for row in rows])
    for row in rows:
        sample = index.sample(row)
        truth = sample.annotations
        known = np.flatnonzero(truth.labels >= 0)
        scores = 1 / (1.1 + 0.01 * np.linalg.norm(truth.boxes[known, :2], axis=1))
        names = tuple(DETECTION_CLASSES[label] for label in truth.labels[known])
        objects = FrameObjects(truth.boxes[known], names, scores, ("",) * len(known))
        submission.add(sample.token, objects, sample.global_from_vehicle)
    submission.save(root / "detections.json")
    return root


def tracked(world: Path, tracker: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The boxes of all samples as tracked, and as detected."""
    output = world / f"{tracker}.json"
    done = track(
        detections=world / "detections.json", data=world / "world", output=output, tracker=tracker, **SPLIT
    )
    assert done.frames == FRAMES and len(done.scenes) == SCENES
    files = (json.loads(path.read_text())["results"] for path in (output, world / "detections.json"))
    return tuple([box for boxes in results.values() for box in boxes] for results in files)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_tracks_are_detections_under_lasting_names(world: Path, tracker: str) -> None:
    tracks, detections = tracked(world, tracker)
    assert {box["tracking_name"] for box in tracks} <= set(TRACKING_CLASSES)
    places: dict[str, list[list[float]]] = defaultdict(list)
    for box in detections:
        places[box["sample_token"]].append(box["translation"])
    seen = Counter(box["sample_token"] + box["tracking_id"] for box in tracks)
    assert set(seen.values()) == {1}
    for box in tracks:
        nearest = np.linalg.norm(np.array(places[box["sample_token"]]) - box["translation"], axis=1).min()
        # A motion model moves boxes, a little.
        assert nearest < (1e-4 if tracker.startswith("greedy") else 2.0)
    # A camera has to see what CC-3DT is to track, and the small images hide much of it.
    wanted = sum(box["detection_name"] in TRACKING_CLASSES for box in detections)
    assert len(tracks) > (0.9 if tracker.startswith("greedy") else 0.5) * wanted
    lives = Counter(box["tracking_id"] for box in tracks)
    assert np.mean(list(lives.values())) > 2


def test_a_split_or_some_of_its_scenes(world: Path) -> None:
    index = open_nuscenes(world / "world", SPLIT["version"])
    scenes = index.split_scenes(SPLIT["split"])
    options = {"detections": world / "detections.json", "data": world / "world", **SPLIT}
    track(output=world / "all.json", **options)
    track(output=world / "one.json", scenes=scenes[:1], **options)
    whole, part = (json.loads((world / name).read_text())["results"] for name in ("all.json", "one.json"))
    assert 0 < len(part) < len(whole) and all(whole[token] == boxes for token, boxes in part.items())


def damaged(world: Path, change: str) -> tuple[Path, str]:
    """The detections with one thing wrong, and what is said of it."""
    content = json.loads((world / "detections.json").read_text())
    first, second = list(content["results"])[:2]
    text = None
    if change == "missing":
        del content["results"][second]
        expected = rf"misses sample {second}"
    elif change == "nan":
        content["results"][first][0]["translation"][0] = float("nan")
        expected = rf"sample {first}, box 0: field 'translation' is nan"
    elif change == "class":
        content["results"][first][0]["detection_name"] = "tram"
        expected = rf"sample {first}, box 0: field 'detection_name' is 'tram'"
    elif change == "tracks":
        box = content["results"][first][0]
        box["tracking_name"] = box.pop("detection_name")
        expected = rf"sample {first}, box 0: field 'detection_name' is missing"
    else:
        text = json.dumps(content).replace('"results": {', f'"results": {{"{first}": [], ', 1)
        expected = rf"lists sample {first} more than once"
    path = world / f"{change}.json"
    path.write_text(text or json.dumps(content))
    return path, expected


@pytest.mark.parametrize("change", ["missing", "nan", "class", "tracks", "repeated"])
def test_damaged_detections_are_refused_by_name(world: Path, change: str) -> None:
    path, expected = damaged(world, change)
    with pytest.raises(SynclError, match=rf"--detections: .*{path.name}.*{expected}"):
        track(detections=path, data=world / "world", output=world / f"never_{change}.json", **SPLIT)
    assert not (world / f"never_{change}.json").exists()


def test_boxes_without_end_are_left_out_and_said(world: Path) -> None:
    content = json.loads((world / "detections.json").read_text())
    (first, *_, last) = (boxes for boxes in content["results"].values() if boxes)
    strange = ({"translation": [1e300, 0, 0]}, {"size": [1e-300, 1, 1]}, {"detection_score": 1e300})
    first += [last[0] | {"sample_token": first[0]["sample_token"]} | change for change in strange]
    (world / "endless.json").write_text(json.dumps(content))
    done = track(
        detections=world / "endless.json", data=world / "world", output=world / "ended.json", **SPLIT
    )
    assert "3 boxes that no tracker can hold" in " ".join(done.remarks)
    track(detections=world / "detections.json", data=world / "world", output=world / "plain.json", **SPLIT)
    ended, plain = (
        json.loads((world / name).read_text())["results"] for name in ("ended.json", "plain.json")
    )
    assert ended == plain


def test_what_makes_no_sense_together_is_refused(world: Path) -> None:
    options = {"data": world / "world", "output": world / "never.json", **SPLIT}
    given = world / "detections.json"
    with pytest.raises(SynclError, match=r"pass a MODEL .* or --detections"):
        track(**options)
    with pytest.raises(SynclError, match="--detections: are tracked as they are"):
        track(detections=given, task="detection", **options)
    with pytest.raises(SynclError, match=r"--output: .*detections\.json: are the detections themselves"):
        track(detections=given, overwrite=True, **options | {"output": given})
    with pytest.raises(SynclError, match="--recording: goes without --detections, --split"):
        track(detections=given, recording=world, output=world / "never", **SPLIT)


def test_the_command_needs_no_model(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["track", "--detections", str(world / "detections.json"), "--data", str(world / "world")]
    arguments += [
        "--output",
        str(world / "command.json"),
        "--version",
        SPLIT["version"],
        "--split",
        SPLIT["split"],
    ]
    main(arguments)
    assert "10 frames of 2 scenes" in capsys.readouterr().out


def test_a_model_ties_detections_with_appearance_and_learned_motion(world: Path, small_world: Path) -> None:
    torch.manual_seed(0)
    looks = AppearanceConfig(tiny_encoder(dim=16), dim=8, hidden=16, convolutions=1, groups=4)
    config = ModelConfig(
        InputConfig((64, 96), exact_resize=False), SMALL["detr3d"](), Cc3dtConfig(appearance=looks)
    )
    save_model(world / "cc.safetensors", config.build().state_dict(), config)
    given = world / "detections.json"
    options = {"detections": given, **SPLIT}
    blind = track(world / "cc.safetensors", data=world / "world", output=world / "blind.json", **options)
    assert any("tracked without appearance" in remark for remark in blind.remarks)
    seeing = track(world / "cc.safetensors", data=small_world, output=world / "seeing.json", **options)
    assert not any("appearance" in remark for remark in seeing.remarks)
    texts = [(world / name).read_text() for name in ("blind.json", "seeing.json")]
    assert texts[0] != texts[1]


def test_motion_is_learned_from_detections_and_annotations(world: Path, small_world: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(InputConfig((64, 96), exact_resize=False), SMALL["detr3d"](), Cc3dtConfig())
    save_model(world / "still.safetensors", config.build().state_dict(), config)
    with pytest.raises(SynclError, match="in 10 key frames or more"):
        train_motion(
            world / "still.safetensors",
            world / "detections.json",
            data=world / "world",
            output=world / "moving.safetensors",
            steps=2,
        )
    index = open_nuscenes(world / "world", SPLIT["version"])
    scenes = index.split_scenes(SPLIT["split"])
    done = train_model_motion(
        world / "still.safetensors",
        world / "detections.json",
        index,
        scenes,
        world / "moving.safetensors",
        MotionTrainingConfig(steps=2, window=4, batch_size=4),
        others=False,
        overwrite=False,
    )
    assert done.trajectories > 3 and set(done.losses) == {"refined", "foreseen", "smoothness"}
    moving = load_model(world / "moving.safetensors")
    assert moving.config.tracker == Cc3dtConfig(motion="velo_lstm")
    output = world / "moved.json"
    track(
        world / "moving.safetensors",
        detections=world / "detections.json",
        data=world / "world",
        output=output,
        **SPLIT,
    )
    assert json.loads(output.read_text())["results"]
