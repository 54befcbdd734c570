"""Whether the image files of a dataset are there, and whether they open."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from syncl.data.folder_listing import FolderListing
from syncl.data.images import image_size
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.tables.survey import Problem
from syncl.data.reading_ahead import read_ahead
from syncl.errors import SynclError
from syncl.files import inside
from syncl.progress import progress_bar

_AHEAD = 256

_REMEDIES = {
    "missing": "unpack the image archives into the data root, or use scenes that are complete",
    "empty": "copy or unpack these files again",
    "damaged": "copy or unpack these files again",
    "of another size": "images must be as large as sample_data.json says, or boxes would not fit",
}


def survey_images(index: NuScenesIndex, decode: bool, workers: int = 0) -> list[Problem]:
    """Every kind of problem with the key-frame images, camera by camera.

    Args:
        index: the dataset.
        decode: also decode every image, by a decoder that tells of damage which the usual ones fill up.
        workers: threads that decode; 0 = as many as suit the machine.
    """
    columns = index.columns
    channels = columns.image_channels.tolist()
    checks: Iterable[str | None]
    paths = (inside(index.dataroot, file.decode(), links=decode) for file in columns.image_files.tolist())
    if decode:
        sizes = ((int(width), int(height)) for width, height in columns.image_sizes.tolist())
        items = zip(paths, sizes)
        checks = read_ahead(lambda item: inspect_image(*item), items, _AHEAD, workers or None)
        return _count(index, channels, progress_bar(checks, "opening images", total=len(channels)))
    listing = FolderListing()
    checks = (None if listing.has(path) else "missing" for path in paths)
    return _count(index, channels, progress_bar(checks, "looking for images", total=len(channels)))


def _count(index: NuScenesIndex, channels: list[int], checks: Iterable[str | None]) -> list[Problem]:
    counts: Counter[tuple[int, str]] = Counter()
    examples: dict[tuple[int, str], int] = {}
    for row, (channel, check) in enumerate(zip(channels, checks, strict=True)):
        if check is not None:
            counts[channel, check] += 1
            examples.setdefault((channel, check), row)
    problems = []
    for (channel, kind), count in sorted(counts.items()):
        place = index.dataroot / index.columns.image_files[examples[channel, kind]].decode()
        what = f"this image of {index.camera_names[channel]} is {kind}"
        problems.append(Problem(place, what, count, _REMEDIES[kind]))
    return problems


def inspect_image(path: Path, size: tuple[int, int]) -> str | None:
    """What is wrong with an image file (a key of the remedies), or None.

    Args:
        path: the file.
        size: (width, height) it must have.
    """
    from PIL import Image

    try:
        found = image_size(path)
        with Image.open(path) as image:
            # A thumbnail's end marker can hide a cut-off file; only decoding to the end finds it.
            image.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
            sound = image.format != "JPEG" or _is_sound(path.read_bytes())
    except (SynclError, OSError, ValueError, SyntaxError):
        if not path.exists():
            return "missing"
        return "empty" if path.is_file() and path.stat().st_size == 0 else "damaged"
    if not sound:
        return "damaged"
    return None if found == (size[1], size[0]) else "of another size"


def _is_sound(jpeg: bytes) -> bool:
    """Whether a decoder that stops at damage comes to the end; the usual ones fill it up and do not tell."""
    import av

    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    decoder.thread_count = 1
    try:
        return bool(decoder.decode(av.Packet(jpeg)))
    except av.error.InvalidDataError:
        return False
