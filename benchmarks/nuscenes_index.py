"""Time and memory of opening a nuScenes version of trainval size, against the official devkit.

Writes tables only (850 scenes, 34,149 samples, 1.17 million annotations; with --sweeps 10 also the 2.6
million sensor records of the real thing), then opens them in fresh processes:

    python benchmarks/nuscenes_index.py /tmp/tables --sweeps 10 --official /path/to/python-with-devkit
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson

from syncl.data.nuscenes.splits import official_scenes

SAMPLES, ANNOTATIONS, INSTANCES = 34_149, 1_170_000, 64_386
CHANNELS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_FRONT_LEFT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
    "LIDAR_TOP",
)
CATEGORIES = ("vehicle.car", "vehicle.truck", "human.pedestrian.adult", "movable_object.barrier", "animal")
VERSION = "v1.0-trainval"

OURS = """
from pathlib import Path
from syncl.data.nuscenes.index import open_nuscenes
index = open_nuscenes(Path({root!r}), "v1.0-trainval")
count = index.annotation_count
"""
BETWEEN = """
from pathlib import Path
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.past.sweeps import open_camera_sweeps
count = len(open_camera_sweeps(open_nuscenes(Path({root!r}), "v1.0-trainval")).files)
"""
OFFICIAL = """
from nuscenes.nuscenes import NuScenes
count = len(NuScenes("v1.0-trainval", {root!r}, verbose=False).sample_annotation)
"""
MEASURED = """
import resource, time
wall, cpu = time.perf_counter(), time.process_time()
{code}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(time.perf_counter() - wall, time.process_time() - cpu, peak, count)
"""


def write_tables(root: Path, sweeps: int) -> None:
    """The tables of a made-up trainval; every reference in them is valid."""
    folder = root / VERSION
    folder.mkdir(parents=True)
    (root / "maps").mkdir()
    cv2.imwrite(str(root / "maps" / "none.png"), np.zeros((4, 4), np.uint8))
    rng = np.random.default_rng(0)
    names = sorted(official_scenes("train") + official_scenes("val"))
    scene_of = np.sort(
        np.concatenate([np.arange(len(names)), rng.integers(0, len(names), SAMPLES - len(names))])
    )
    scenes, samples, annotations = (tokens(rng, n) for n in (len(names), SAMPLES, ANNOTATIONS))
    instances, sensors = tokens(rng, INSTANCES), tokens(rng, len(names) * len(CHANNELS))
    times = 1_500_000_000_000_000 + np.arange(SAMPLES) * 500_000
    length = -(-ANNOTATIONS // INSTANCES)

    def write(name: str, records: Iterable[dict[str, Any]]) -> None:
        with (folder / f"{name}.json").open("wb") as file:
            file.write(b"[\n")
            for number, record in enumerate(records):
                file.write((b",\n" if number else b"") + orjson.dumps(record, option=orjson.OPT_INDENT_2))
            file.write(b"\n]")

    def annotated() -> Iterator[dict[str, Any]]:
        for number, token in enumerate(annotations):
            instance, place = divmod(number, length)
            last = place == length - 1 or number == ANNOTATIONS - 1
            yield {
                "token": token, "sample_token": samples[(instance * 7 + place) % SAMPLES],
                "instance_token": instances[instance], "visibility_token": str(number % 4 + 1),
                "attribute_tokens": ["a0"] if number % 2 else [],
                "translation": [373.214 + number % 100, 1130.48, 1.25], "size": [0.621, 0.669, 1.642],
                "rotation": [0.9831098797903927, 0.0, 0.0, -0.18301629506281616],
                "prev": annotations[number - 1] if place else "",
                "next": "" if last else annotations[number + 1], "num_lidar_pts": 5, "num_radar_pts": 0,
            }  # fmt: skip

    def recorded(poses: bool) -> Iterator[dict[str, Any]]:
        own = np.random.default_rng(1)
        for sample, token in enumerate(samples):
            ids = tokens(own, 2 * len(CHANNELS) * (1 + sweeps))
            for number in range(len(ids) // 2):
                channel = number % len(CHANNELS)
                time_us = int(times[sample]) - 1000 * channel + 50_000 * (number // len(CHANNELS))
                if poses:
                    yield {
                        "token": ids[2 * number], "timestamp": time_us,
                        "rotation": [0.57203203967290, -0.0016977771610471, 0.011798001930184, -0.8201446642],
                        "translation": [411.3039349319818, 1180.8903791765097, 0.0],
                    }  # fmt: skip
                    continue
                name = CHANNELS[channel]
                camera = name.startswith("CAM")
                yield {
                    "token": ids[2 * number + 1], "sample_token": token, "ego_pose_token": ids[2 * number],
                    "calibrated_sensor_token": sensors[scene_of[sample] * len(CHANNELS) + channel],
                    "timestamp": time_us, "fileformat": "jpg" if camera else "pcd",
                    "is_key_frame": number < len(CHANNELS),
                    "height": 900 if camera else 0, "width": 1600 if camera else 0,
                    "filename": f"samples/{name}/n015-2018-07-24-11-22-45+0800__{name}__{time_us}.jpg",
                    "prev": "", "next": "",
                }  # fmt: skip

    pose = {"translation": [1.0, 0.0, 1.5], "rotation": [1.0, 0.0, 0.0, 0.0]}
    intrinsics = [[1266.0, 0, 800], [0, 1266.0, 450], [0, 0, 1]]
    levels = ("v0-40", "v40-60", "v60-80", "v80-100")
    write("log", [{"token": "log", "logfile": "", "vehicle": "", "date_captured": "", "location": "nowhere"}])
    write("map", [{"token": "map", "log_tokens": ["log"], "category": "", "filename": "maps/none.png"}])
    write("category", ({"token": f"c{n}", "name": name} for n, name in enumerate(CATEGORIES)))
    write("attribute", [{"token": "a0", "name": "vehicle.moving"}])
    write("visibility", ({"token": str(n + 1), "level": level} for n, level in enumerate(levels)))
    write(
        "sensor",
        ({"token": c, "channel": c, "modality": "lidar" if "LIDAR" in c else "camera"} for c in CHANNELS),
    )
    write(
        "calibrated_sensor",
        (
            {
                "token": token, "sensor_token": CHANNELS[n % 7], **pose,
                "camera_intrinsic": [] if n % 7 == 6 else intrinsics,
            }
            for n, token in enumerate(sensors)
        ),
    )  # fmt: skip
    write("scene", ({"token": t, "name": n, "log_token": "log"} for t, n in zip(scenes, names)))
    write(
        "sample",
        (
            {
                "token": t,
                "timestamp": int(times[n]),
                "prev": "",
                "next": "",
                "scene_token": scenes[scene_of[n]],
            }
            for n, t in enumerate(samples)
        ),
    )
    write("instance", ({"token": t, "category_token": f"c{n % 5}"} for n, t in enumerate(instances)))
    write("sample_annotation", annotated())
    write("sample_data", recorded(poses=False))
    write("ego_pose", recorded(poses=True))


def tokens(rng: np.random.Generator, count: int) -> list[str]:
    digits = rng.bytes(16 * count).hex()
    return [digits[32 * n : 32 * n + 32] for n in range(count)]


def measure(
    label: str, python: str, code: str, root: Path, counted: str = "annotations"
) -> tuple[float, float]:
    """Run code in a fresh process, print what it took; CPU seconds and peak memory in GB."""
    script = MEASURED.format(code=code.format(root=str(root)))
    result = subprocess.run([python, "-c", script], capture_output=True, text=True)
    lines = (result.stdout if result.returncode == 0 else result.stderr).strip().splitlines()
    if result.returncode:
        raise SystemExit(f"{label}: {lines[-1]}")
    wall, cpu, peak, count = map(float, lines[-1].split())
    print(f"{label:<28}{wall:8.2f} s wall {cpu:8.2f} s CPU {peak:6.2f} GB {count:9.0f} {counted}", flush=True)
    return cpu, peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="where to keep the tables (reused if they are there)")
    parser.add_argument("--sweeps", type=int, default=0, help="records between key frames for each sensor")
    parser.add_argument("--official", help="a python that has nuscenes-devkit")
    arguments = parser.parse_args()
    if not (arguments.root / VERSION).exists():
        write_tables(arguments.root, arguments.sweeps)
    (arguments.root / ".syncl" / f"{VERSION}.npz").unlink(missing_ok=True)
    measure("syncl, building the index", sys.executable, OURS, arguments.root)
    ours = measure("syncl, opening it again", sys.executable, OURS, arguments.root)
    if arguments.sweeps:
        (arguments.root / ".syncl" / f"{VERSION}-sweeps.npz").unlink(missing_ok=True)
        for label in ("syncl, between key frames", "syncl, opening both again"):
            measure(label, sys.executable, BETWEEN, arguments.root, "camera images")
    if arguments.official:
        official = measure("official devkit, every time", arguments.official, OFFICIAL, arguments.root)
        print(
            f"opening: {official[0] / ours[0]:.0f} times less CPU time, "
            f"{official[1] / ours[1]:.0f} times less memory than the official devkit"
        )


if __name__ == "__main__":
    main()
