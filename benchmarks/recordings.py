"""CPU time a frame of six cameras takes to read, from video files and from images, of the same recording.

The same pictures, a street of the synthetic world that passes by, as JPEG (quality 90) and as H.264 (crf 20),
are read in turn in one process, to what a model sees and as they are.

    python benchmarks/recordings.py --frames 20      # 1600x900

On a busy machine, medians of video over images: exact to 320x800 0.89, fast 0.86, fast to 128x352 0.96, as
they are 0.84. Over all twenty frames 1.03, 1.34, 1.61, 1.01: the first ones carry the opening of six videos.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import av
import cv2
import numpy as np
import yaml

from syncl.data.images import ResizeMethod
from syncl.data.recording import Recording, open_recording
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig

SIZE, CAMERAS, RATE = (900, 1600), 6, 10
POSE = {"translation_m": [1.0, 0.0, 1.5], "rotation": [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]}
CASES: dict[str, tuple[tuple[int, int] | None, ResizeMethod]] = {
    "to 320x800, exact": ((320, 800), "exact"),
    "to 320x800, fast": ((320, 800), "fast"),
    "to 128x352, fast": ((128, 352), "fast"),
    "as they are": (None, "exact"),
}


def pictures(folder: Path, count: int) -> list[np.ndarray]:
    """A camera's images of a drive, by an order of frames that a window slides over."""
    generate_world(
        folder, WorldConfig(1, 1, keyframes=2, width=SIZE[1] + 8 * count, height=SIZE[0]), workers=1
    )
    path = next((folder / "samples" / "CAM_FRONT").glob("*.jpg"))
    wide = cv2.imread(str(path))
    return [np.ascontiguousarray(wide[:, 8 * shift : 8 * shift + SIZE[1]]) for shift in range(count)]


def write(folder: Path, images: list[np.ndarray], filmed: bool) -> Path:
    cameras = {}
    for camera in (f"camera_{number}" for number in range(CAMERAS)):
        size = {"image_size": [SIZE[1], SIZE[0]], "vehicle_from_camera": POSE}
        cameras[camera] = {**size, "intrinsics": {"fx": 1200.0, "fy": 1200.0, "cx": 800.0, "cy": 450.0}}
        target = folder / "images" / camera
        target.mkdir(parents=True)
        if filmed:
            cameras[camera]["video"] = f"images/{camera}/film.mp4"
            with av.open(str(target / "film.mp4"), "w") as container:
                stream = container.add_stream("libx264", rate=RATE, options={"crf": "20", "preset": "fast"})
                stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
                for image in images:
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
                container.mux(stream.encode(None))
        else:
            for number, image in enumerate(images):
                cv2.imwrite(str(target / f"{number:06d}.jpg"), image, (cv2.IMWRITE_JPEG_QUALITY, 90))
    rig = {"format": "syncl-rig-1", "cameras": cameras, "frame_rate_hz": RATE}
    (folder / "rig.yaml").write_text(yaml.safe_dump(rig))
    return folder


def in_turn(first: Recording, second: Recording) -> tuple[list[float], list[float]]:
    """CPU milliseconds of every frame of both, all threads together."""
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(len(first)):
        for recording, times in zip((first, second), spent):
            start = time.process_time()
            recording.frame(number)
            times.append(1e3 * (time.process_time() - start))
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=40)
    count = parser.parse_args().frames
    with tempfile.TemporaryDirectory() as work:
        images = pictures(Path(work) / "world", count)
        folders = [write(Path(work) / name, images, name == "film") for name in ("film", "images")]
        print(f"{count} frames of {CAMERAS} cameras, {SIZE[1]}x{SIZE[0]}; median CPU ms a frame")
        for name, (size, resize) in CASES.items():
            film, stills = (open_recording(f, image_size=size, resize=resize, quiet=True) for f in folders)
            assert len(film) == len(stills) == count
            filmed, still = in_turn(film, stills)
            ratio = sum(filmed) / sum(still)
            print(f"{name:20} video {median(filmed):7.1f}   images {median(still):7.1f}   all {ratio:.2f}")


if __name__ == "__main__":
    main()
