"""From frames to a recording: the way back of `open_recording`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import yaml

from syncl.data.recording.rig_file import FORMAT, RIG_FILE
from syncl.errors import SynclError
from syncl.files import atomic_folder, check_replaced
from syncl.structures import Frame

Entry = dict[str, object]


def write_recording(
    frames: Iterable[Frame],
    folder: str | Path,
    *,
    image_format: Literal["png", "jpg"] = "png",
    vehicle_from_lidar: np.ndarray[tuple[int, int], np.dtype[np.float64]] | None = None,
    overwrite: bool = False,
) -> int:
    """Write frames of one stream as a recording; returns how many.

    Reading it with `open_recording(folder)` gives the same frames again (images to the last bit as PNG). The
    folder appears only when all is written.

    Args:
        frames: in time order, of one scene, B = 1, all with the same cameras and image sizes.
        folder: where to write.
        image_format: PNG is exact, JPEG (quality 95) small.
        vehicle_from_lidar: [4, 4] for the rig file, see `Rig`.
        overwrite: replace an existing recording.

    Raises:
        SynclError: frames that do not belong together, no frame at all, or an existing folder.
    """
    folder = Path(folder)
    check_replaced(folder, overwrite, RIG_FILE)
    with atomic_folder(folder) as temporary:
        writer = _Writer(temporary, image_format)
        for frame in frames:
            writer.add(frame)
        writer.finish(vehicle_from_lidar)
    return len(writer.moments)


class _Writer:
    """Writes images as frames come and keeps what the rig file will say."""

    def __init__(self, folder: Path, image_format: str) -> None:
        self._folder = folder
        self._suffix = image_format
        self._cameras: dict[str, Entry] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._scene, self._time_s = "", float("-inf")
        self._names: set[str] = set()
        self.moments: list[Entry] = []

    def add(self, frame: Frame) -> None:
        host = frame.to("cpu")
        name = host.samples[0]
        self._check(host, name)
        sizes = {n: (int(h), int(w)) for n, (h, w) in zip(host.rig.names, host.content_size[0].tolist())}
        calibrations = self._calibrations(host)
        if not self._cameras:
            self._scene, self._sizes = host.scenes[0], sizes
            for camera, (height, width) in sizes.items():
                self._cameras[camera] = {"image_size": [width, height], **calibrations[camera]}
        if sizes != self._sizes:
            raise SynclError(
                f"frame '{name}': cameras or sizes {sizes} differ from the first's {self._sizes}"
            )
        images = {}
        for row, camera in enumerate(host.rig.names):
            if not bool(host.camera_valid[0, row]):
                continue
            height, width = sizes[camera]
            pixels = host.images[0, row, :, :height, :width].permute(1, 2, 0).numpy()
            file = Path("images") / camera / f"{name}.{self._suffix}"
            self._write_image(pixels, file)
            images[camera] = file.as_posix()
        own = {
            camera: changed
            for camera, values in calibrations.items()
            if (changed := {k: v for k, v in values.items() if v != self._cameras[camera][k]})
        }
        moment: Entry = {
            "name": name,
            "timestamp_s": float(host.timestamp_s[0]),
            "global_from_vehicle": host.global_from_vehicle[0].tolist(),
            "images": images,
        }
        self.moments.append(moment | ({"cameras": own} if own else {}))

    def _check(self, frame: Frame, name: str) -> None:
        if frame.batch_size != 1:
            raise SynclError(f"frame '{name}': {frame.batch_size} streams; a recording is one stream")
        for what, text in (("sample", name), *(("camera", camera) for camera in frame.rig.names)):
            if any(sign in text for sign in "/\\\0") or text.strip(". ") == "":
                raise SynclError(f"frame '{name}': the {what}'s name {text!r} cannot be a file name")
        if self.moments and frame.scenes[0] != self._scene:
            raise SynclError(
                f"frame '{name}' is of scene {frame.scenes[0]}, the first of {self._scene}; write every "
                "scene into a recording of its own"
            )
        if name in self._names:
            raise SynclError(f"frame '{name}' came twice")
        time_s = float(frame.timestamp_s[0])
        if time_s <= self._time_s:
            raise SynclError(
                f"frame '{name}' at {time_s!r} s is not later than the one before ({self._time_s!r} s)"
            )
        self._names.add(name)
        self._time_s = time_s

    @staticmethod
    def _calibrations(frame: Frame) -> dict[str, Entry]:
        from syncl.geometry.transforms import invert_rigid

        poses = invert_rigid(frame.rig.camera_from_vehicle[0]).tolist()
        intrinsics = frame.rig.image_from_camera[0].tolist()
        return {
            name: {"intrinsics": matrix, "vehicle_from_camera": pose}
            for name, matrix, pose in zip(frame.rig.names, intrinsics, poses)
        }

    def _write_image(self, pixels: np.ndarray, file: Path) -> None:
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        options = [cv2.IMWRITE_JPEG_QUALITY, 95] if self._suffix == "jpg" else []
        _, encoded = cv2.imencode(f".{self._suffix}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
        path.write_bytes(encoded.tobytes())

    def finish(self, vehicle_from_lidar: np.ndarray | None) -> None:
        if not self.moments:
            raise SynclError("there is no frame to write")
        content: Entry = {"format": FORMAT, "name": self._scene or "recording", "cameras": self._cameras}
        if vehicle_from_lidar is not None:
            content["vehicle_from_lidar"] = vehicle_from_lidar.tolist()
        content["frames"] = self.moments
        # Numbers in one line each, names and structure below each other.
        text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=1000)
        (self._folder / RIG_FILE).write_text(text, encoding="utf-8")
