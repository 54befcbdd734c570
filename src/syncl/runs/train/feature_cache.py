"""Features of a frozen image encoder, computed once for all trainings that share it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from syncl.checkpoints.codec import encode_config
from syncl.data.augmentation import Augmentation
from syncl.data.features import FeatureStore, write_features
from syncl.data.loading import collate_clips
from syncl.data.nuscenes.clips.dataset import ClipDataset
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.detectors.image_encoder import ImageEncoder
from syncl.errors import SynclError
from syncl.files import atomic_folder
from syncl.progress import progress_bar
from syncl.recipes import Recipe
from syncl.runs.track.scenes import image_options
from syncl.runs.train.clips import annotation_options
from syncl.structures import Frame
from syncl.trackers import Tracker
from syncl.training.waiting import wait_for_main

_ENCODER = "detector.image_encoder"
_BATCH = 4


def check_cacheable(recipe: Recipe) -> None:
    """Refuse recipes that make something else of an image each time.

    Raises:
        SynclError: saying which setting is in the way.
    """
    if not any(f"{_ENCODER}.".startswith(f"{part}.") for part in recipe.training.unroll.frozen):
        raise SynclError(
            "--cache-features: the image encoder is trained, so its features change; add --freeze-encoder"
        )
    if recipe.model.input.past is not None or recipe.training.data.sampling == "pairs":
        raise SynclError(
            "--cache-features: this recipe looks at images of a while ago beside every frame's own, whose "
            "features are not stored; train it without"
        )
    augmentation = recipe.training.data.augmentation
    if augmentation is not None and not leaves_images(augmentation):
        raise SynclError(
            "--cache-features: images are scaled, mirrored or recoloured at random; set "
            "training.data.augmentation.resize_range to (1, 1), flip_probability and mirror_probability to 0 "
            "and photometric to false, or training.data.augmentation=null"
        )


def leaves_images(augmentation: Augmentation) -> bool:
    """Whether an augmentation never changes pixels (turning and scaling the world does not)."""
    return (
        augmentation.resize_range == (1.0, 1.0)
        and not augmentation.flip_probability
        and not augmentation.mirror_probability
        and not augmentation.photometric
    )


def cached_features(
    folder: Path,
    recipe: Recipe,
    index: NuScenesIndex,
    scenes: Sequence[str],
    tracker: Tracker,
    accelerator: Accelerator,
) -> FeatureStore:
    """The store of these scenes' features under `folder`, filled now where it is not there yet.

    Stores are named after the encoder's weights and configuration, the precision and the dataset, and know of
    every sample which images they were made from, so none is ever taken for another: a world that was made
    anew or a lens that was calibrated again is encoded again. A store of further scenes as well will do.

    Raises:
        SynclError: see `check_cacheable`.
    """
    check_cacheable(recipe)
    sources = _sources(index, scenes)
    digest = _digest(recipe, index, _encoder(tracker), accelerator)
    contents = hashlib.sha256(orjson.dumps(sources)).hexdigest()[:8]
    if accelerator.is_main_process and _holding(folder, digest, sources) is None:
        # Another run may be quicker: then the same features take the place of its own.
        with atomic_folder(folder / f"{digest}-{contents}") as partial:
            write_features(partial, _encoded(recipe, index, scenes, tracker, accelerator), sources)
    wait_for_main(accelerator)
    found = _holding(folder, digest, sources)
    if found is None:
        raise SynclError(f"{folder}: the features written there are gone again")
    return found


def _holding(folder: Path, digest: str, sources: Mapping[str, str]) -> FeatureStore | None:
    """A store of this digest that holds all of the samples, made from these images."""
    for head in sorted(folder.glob(f"{digest}-*/features.json")):
        store = FeatureStore(head.parent)
        if all(store.made_from(sample, source) for sample, source in sources.items()):
            return store
    return None


def _sources(index: NuScenesIndex, scenes: Sequence[str]) -> dict[str, str]:
    """Of every sample of the scenes a name of its images: their files by size, intrinsics and lenses."""
    named = {}
    for row in (row for scene in scenes for row in index.scene_samples(scene)):
        sample = index.sample(row)
        digest = hashlib.blake2b(digest_size=8)
        for image in sample.cameras:
            size = image.path.stat().st_size if image.path.is_file() else None
            digest.update(f"{image.channel} {image.path.name} {size} {image.lens}".encode())
            digest.update(image.file_intrinsics.tobytes())
        named[sample.token] = digest.hexdigest()
    return named


def _encoded(
    recipe: Recipe, index: NuScenesIndex, scenes: Sequence[str], tracker: Tracker, accelerator: Accelerator
) -> Iterator[tuple[Sequence[str], Tensor, Sequence[Tensor]]]:
    """Every frame of the scenes through the encoder, in inference mode and the run's precision."""
    clips = ClipDataset(
        index,
        scenes,
        clip_length=1,
        images=image_options(recipe.model.input),
        annotations=annotation_options(recipe),
    )
    encoder = _encoder(tracker).to(accelerator.device)
    training = encoder.training
    encoder.eval()
    loader = DataLoader(Subset(clips, range(len(clips))), _BATCH, collate_fn=collate_clips, num_workers=0)
    try:
        with torch.no_grad(), accelerator.autocast():
            for clip in progress_bar(loader, "image features", total=len(loader)):
                frame = encoder.pad(clip.frames[0].to(accelerator.device))
                yield frame.samples, frame.camera_valid, encoded_levels(encoder, frame)
    finally:
        encoder.train(training)


def encoded_levels(encoder: ImageEncoder, frame: Frame) -> tuple[Tensor, ...]:
    """What the encoder makes of a batch; 0 for cameras that no frame of it has, as where rigs differ."""
    seen = frame.camera_valid.any(0)
    if not seen.any():
        seen = torch.ones_like(seen)
    there = replace(frame, images=frame.images[:, seen], content_size=frame.content_size[:, seen])
    levels: tuple[Tensor, ...] = encoder(there)
    padded = [level.new_zeros(len(level), len(seen), *level.shape[2:]) for level in levels]
    for level, known in zip(padded, levels, strict=True):
        level[:, seen] = known
    return tuple(padded)


def _encoder(tracker: Tracker) -> ImageEncoder:
    """The image encoder of a tracker's detector.

    Raises:
        SynclError: if it has none, as a detector of a user's own may.
    """
    encoder = getattr(tracker.detector, "image_encoder", None)
    if not isinstance(encoder, ImageEncoder):
        raise SynclError(
            f"--cache-features: {type(tracker.detector).__name__} has no image_encoder of this package, "
            "whose features could be stored; train without it"
        )
    return encoder


def _digest(recipe: Recipe, index: NuScenesIndex, encoder: ImageEncoder, accelerator: Accelerator) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    settings = [
        encode_config(recipe.model.detector.image),
        # How the vehicle moves is no part of its images.
        encode_config(replace(image_options(recipe.model.input), odometry=False)),
        accelerator.mixed_precision,
        str(index.dataroot.resolve()),
        index.version,
        "channels last",
    ]
    digest.update(orjson.dumps(settings))
    return digest.hexdigest()[:20]
