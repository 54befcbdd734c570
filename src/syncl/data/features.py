"""Image features on disk: what a frozen image encoder makes of every frame, computed once.

A folder with `features.json` (which samples, made from what, shapes) and one file a pyramid level,
`level0.bin` and so on: rows of [C, D, H / stride, W / stride] numbers, a row a sample. Rows are mapped into
memory, so that several processes share what the system keeps of them. This room knows nothing of encoders:
`runs.train.feature_cache` fills the folder, and names it after the encoder; `sources` say of a sample which
images it looked at.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, cast

import numpy as np
import orjson
import torch
from torch import Tensor

from syncl.errors import SynclError
from syncl.files import atomic_write, parse_json

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_UNSIGNED = {4: "uint32", 2: "uint16"}


@dataclass(frozen=True)
class StoredFeatures:
    """What is stored of one sample.

    Attributes:
        levels: [1, C, D, H / stride, W / stride] each, finest first.
        camera_valid: C; False where a camera delivered nothing.
    """

    levels: tuple[Tensor, ...]
    camera_valid: tuple[bool, ...]


class FeatureStore:
    """Reads a folder of features.

    Args:
        folder: written by `write_features`.

    Raises:
        SynclError: if the folder is not a complete store.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "features.json"
        try:
            head = cast(dict[str, Any], parse_json(path))
            self._rows = {token: row for row, token in enumerate(head["samples"])}
            self._valid = [tuple(map(bool, valid)) for valid in head["camera_valid"]]
            # Folders from before they were noted match no images.
            sources = list(map(str, head.get("sources", [""] * len(head["samples"]))))
            self._sources = dict(zip(head["samples"], sources, strict=True))
            self._dtype = _DTYPES[head["dtype"]]
            shapes = [tuple(map(int, shape)) for shape in head["channels_last_shapes"]]
            if not len(self._rows) == len(head["samples"]) == len(self._valid):
                raise ValueError(f"{len(self._rows)} different samples, {len(self._valid)} of camera_valid")
        except (SynclError, KeyError, TypeError, ValueError) as error:
            raise SynclError(
                f"{path}: not a complete store of features ({error!r}); delete {folder}"
            ) from error
        self.folder = folder
        self._levels = []
        for number, shape in enumerate(shapes):
            level = folder / f"level{number}.bin"
            expected = len(self._rows) * int(np.prod(shape)) * self._dtype.itemsize
            if not level.is_file() or level.stat().st_size != expected:
                raise SynclError(f"{level}: must have {expected} bytes; delete {folder} and start again")
            unsigned = np.dtype(_UNSIGNED[self._dtype.itemsize])
            self._levels.append(np.memmap(level, unsigned, "c", 0, (len(self._rows), *shape)))

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, sample: str) -> bool:
        return sample in self._rows

    def made_from(self, sample: str, source: str) -> bool:
        """Whether the sample is here, and its features were made from these images (`write_features`)."""
        return self._sources.get(sample) == source

    def of(self, sample: str) -> StoredFeatures:
        """The features of a sample.

        Raises:
            SynclError: if they are not here.
        """
        row = self._rows.get(sample)
        if row is None:
            raise SynclError(f"{self.folder}: holds no features of sample {sample}")
        # Views of the files: what reads them copies them, once.
        levels = tuple(
            torch.from_numpy(level[row]).view(self._dtype)[None].movedim(-1, 2) for level in self._levels
        )
        return StoredFeatures(levels, self._valid[row])


def write_features(
    folder: Path,
    batches: Iterable[tuple[Sequence[str], Tensor, Sequence[Tensor]]],
    sources: Mapping[str, str] = MappingProxyType({}),
) -> FeatureStore:
    """Write features as they come, and open what was written.

    The folder counts as a store only once `features.json` is in it, which comes last.

    Args:
        folder: empty or not there.
        batches: (B sample tokens, camera_valid [B, C], levels [B, C, D, H, W] each).
        sources: of samples, a name of the images that were looked at.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples: list[str] = []
    valid: list[list[bool]] = []
    files: list[BinaryIO] = []
    shapes: list[list[int]] = []
    dtype = torch.float32
    try:
        for tokens, camera_valid, levels in batches:
            if not files:
                files = [(folder / f"level{number}.bin").open("wb") for number in range(len(levels))]
                shapes = [list(level.movedim(2, -1).shape[1:]) for level in levels]
                dtype = levels[0].dtype
            samples.extend(tokens)
            valid.extend(camera_valid.tolist())
            for file, level in zip(files, levels, strict=True):
                flat = level.detach().cpu().movedim(2, -1).contiguous()
                file.write(flat.view(torch.int32 if dtype.itemsize == 4 else torch.int16).numpy().tobytes())
    finally:
        for file in files:
            file.close()
    head = {
        "samples": samples,
        "camera_valid": valid,
        "sources": [sources.get(sample, "") for sample in samples],
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "channels_last_shapes": shapes,
    }
    atomic_write(folder / "features.json", orjson.dumps(head))
    return FeatureStore(folder)
