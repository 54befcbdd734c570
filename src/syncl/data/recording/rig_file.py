"""Reading `rig.yaml`; docs/recordings.md describes it."""

from collections.abc import Mapping
from pathlib import Path

from syncl.data.folder_listing import FolderListing
from syncl.data.images import MOST_PIXELS
from syncl.data.lenses import COEFFICIENTS, Lens
from syncl.data.recording.calibration import read_intrinsics, read_pose
from syncl.data.recording.moments import read_moments, tipped_over
from syncl.data.recording.rig_contents import Array, Rig, RigCamera, find_images
from syncl.data.recording.video_moments import with_videos
from syncl.data.yaml_node import Node, read_yaml
from syncl.errors import shown
from syncl.files import inside

RIG_FILE = "rig.yaml"
FORMAT = "syncl-rig-1"
_SUFFIXES = (".yaml", ".yml")


def read_rig(folder: Path, live: bool = False) -> Rig:
    """Read the rig file of a recording and find its images.

    Args:
        folder: the recording (or its `rig.yaml`).
        live: only the cameras matter, since their images come from elsewhere; the rig has no moments.

    Raises:
        SynclError: a field is missing, unknown or wrong, or cameras and image folders do not fit together;
            names file, field, value and remedy.
    """
    path = folder if folder.suffix in _SUFFIXES else folder / RIG_FILE
    node = read_yaml(path)
    fields = node.fields(
        ("format", "cameras"), ("name", "frames", "frame_rate_hz", "vehicle_from_lidar", "comment")
    )
    if fields["format"].value != FORMAT:
        fields["format"].expected(f"'{FORMAT}'")
    root = path.parent
    cameras = tuple(_camera(entry, name, root) for name, entry in fields["cameras"].entries().items())
    if not cameras:
        fields["cameras"].fail("there is no camera; describe at least one")
    if live:
        return Rig(path, _name(fields, root), cameras, (), _lidar(fields), False)
    for camera, entry in zip(cameras, fields["cameras"].entries().values()):
        named = entry.entries().get("images")
        if named is not None and not camera.folder.is_dir():
            named.fail(f"is {shown(named.value)}, and there is no folder {camera.folder}")
    listing = FolderListing()
    _refuse_undescribed(fields["cameras"], cameras, root / "images", listing)
    moments, has_poses = read_moments(node, fields, cameras, listing)
    moments, remarks = with_videos(moments, cameras, has_poses)
    for camera in cameras:
        if not any(camera.name in moment.images for moment in moments):
            place = camera.folder if camera.video is None else f"{camera.video} at its time"
            node.fail(
                f"cameras.{camera.name}: no frame has an image of it in {place}; put its images "
                "(.jpg, .jpeg or .png) there or remove the camera"
            )
    return Rig(path, _name(fields, root), cameras, moments, _lidar(fields), has_poses, remarks)


def folder_of(recording: Path) -> Path:
    """The folder of a recording that is given by itself or by its `rig.yaml`."""
    return recording.resolve().parent if recording.suffix in _SUFFIXES else recording.resolve()


def open_rig(path: str | Path) -> Rig:
    """The cameras that a `rig.yaml` describes, for live tracking (`Tracker.frame`); no image is looked for.

    Args:
        path: the file, or its folder. `frames` may be left out.

    Raises:
        SynclError: as `open_recording`.
    """
    return read_rig(Path(path), live=True)


def _name(fields: Mapping[str, Node], root: Path) -> str:
    return fields["name"].text() if "name" in fields else root.resolve().name


def _lidar(fields: Mapping[str, Node]) -> Array | None:
    lidar = read_pose(fields["vehicle_from_lidar"]) if "vehicle_from_lidar" in fields else None
    if lidar is not None and (tipped := tipped_over(lidar, "lidar")):
        fields["vehicle_from_lidar"].fail(tipped)
    return lidar


def _camera(node: Node, name: str, root: Path) -> RigCamera:
    fields = node.fields(
        ("image_size", "intrinsics", "vehicle_from_camera"),
        ("distortion", "images", "video", "video_times", "video_offset_s", "comment"),
    )
    size = list(fields["image_size"].items())
    if len(size) != 2:
        fields["image_size"].expected("[width, height] in pixels")
    width, height = size[0].count(), size[1].count()
    if width * height > MOST_PIXELS:
        fields["image_size"].expected(f"at most {MOST_PIXELS:,} pixels")
    if not name.strip() or name == ".." or any(sign in name for sign in "/\\,"):
        node.fail("a camera's name may not be empty, '..' or hold a slash or comma")
    if "video" in fields and "images" in fields:
        node.fail("give either 'video' (one file) or 'images' (a folder)")
    for companion in ("video_offset_s", "video_times"):
        if companion in fields and "video" not in fields:
            fields[companion].fail("goes with 'video'")
    images = fields["images"].text() if "images" in fields else f"images/{name}"
    video = inside(root, fields["video"].text(), f"{node.path}: {node.place}") if "video" in fields else None
    times = None
    if "video_times" in fields:
        times = inside(root, fields["video_times"].text(), f"{node.path}: {node.place}")
    lens = _lens(fields["distortion"]) if "distortion" in fields else None
    return RigCamera(
        name=name,
        width=width,
        height=height,
        intrinsics=read_intrinsics(fields["intrinsics"]),
        vehicle_from_camera=read_pose(fields["vehicle_from_camera"]),
        lens=lens,
        folder=inside(root, images, f"{node.path}: {node.place}"),
        video=video,
        times=times,
        offset_s=fields["video_offset_s"].number() if "video_offset_s" in fields else 0.0,
    )


def _lens(node: Node) -> Lens:
    fields = node.fields(("model", "coefficients"), ("focal_scale",))
    text = fields["model"].text()
    model = next((model for model in COEFFICIENTS if model == text), None)
    scale = fields["focal_scale"].number() if "focal_scale" in fields else 1.0
    if scale <= 0:
        fields["focal_scale"].expected("a positive number")
    if model is None:
        fields["model"].expected("'pinhole' (k1 k2 p1 p2 k3 ...) or 'fisheye' (k1 k2 k3 k4)")
    values = fields["coefficients"].numbers(*COEFFICIENTS[model])
    return Lens(model, tuple(values.tolist()), scale)


def _refuse_undescribed(
    node: Node, cameras: tuple[RigCamera, ...], images: Path, listing: FolderListing
) -> None:
    """Images that no camera of the file claims are a camera somebody forgot to describe."""
    claimed = {camera.folder.resolve() for camera in cameras}
    for name in sorted(listing.files(images)):
        folder = images / name
        if folder.is_dir() and folder.resolve() not in claimed and find_images(listing, folder):
            node.fail(
                f"camera '{name}' is missing, but {folder} holds its images; describe it or move the images "
                f"away (described are {', '.join(camera.name for camera in cameras)})"
            )
