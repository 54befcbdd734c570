"""Results as Argoverse 2's challenges take them: one feather table, boxes in the ego frame of their sweep.

    log_id, timestamp_ns, [track_uuid,] category, tx_m ... qz, length_m, width_m, height_m, score

Inside syncl results are boxes in the city's frame, sample by sample (`data.nuscenes.results.submission`).
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import orjson

from syncl.data.argoverse2.feather import POSE, SIZE, Integers, Numbers, Table, write_table
from syncl.data.argoverse2.log_contents import poses_at
from syncl.data.argoverse2.log_folders import logs_of
from syncl.data.nuscenes.index import NuScenesIndex, open_scene_columns
from syncl.dataset_description import DatasetDescription
from syncl.errors import did_you_mean
from syncl.files import refuse_to_overwrite
from syncl.geometry.poses import (
    invert_pose,
    quaternion_from_rotation,
    rigid_from_pose,
    rotation_from_quaternion,
)

_REMEDY = "write it again (docs/argoverse2.md has its columns)"


class FeatherResults:
    """See `syncl.data.own_results.ResultsLayout`.

    Args:
        dataroot: folder of the splits.
    """

    def __init__(self, dataroot: Path) -> None:
        self._dataroot = dataroot

    def write(self, index: NuScenesIndex, written: Mapping[str, bytes], path: Path, overwrite: bool) -> None:
        """Write results as one table; forecasts have no place in it.

        Raises:
            SynclError: the file exists and `overwrite` is not set.
        """
        refuse_to_overwrite(path, overwrite)
        _write(index, written, path)

    def read(self, path: Path, split: str, dataset: DatasetDescription) -> bytes:
        """A table as a results file (JSON) of a split: sweeps without boxes have empty lists.

        Velocities are unknown. Tracks and detections are told by the column `track_uuid`.

        Raises:
            SynclError: the table is damaged, a column is missing or of another kind, or a row names a log, a
                sweep or a category that is not there, or holds no box; file, column and row are named.
        """
        return _read(path, self._dataroot, split, dataset.classes)


def _write(index: NuScenesIndex, written: Mapping[str, bytes], path: Path) -> None:
    row_of = {token.decode(): row for row, token in enumerate(index.columns.sample_tokens.tolist())}
    boxes = [(token, box) for token, text in written.items() for box in orjson.loads(text)]
    poses = index.columns.sample_poses[[row_of[token] for token, _ in boxes]].reshape(-1, 7)
    centres = _array([box["translation"] for _, box in boxes], 3)
    turned = rotation_from_quaternion(_array([box["rotation"] for _, box in boxes], 4))
    ego_from_city = invert_pose(rigid_from_pose(poses[:, :3], poses[:, 3:]))
    moved = (ego_from_city[:, :3, :3] @ centres[..., None])[..., 0] + ego_from_city[:, :3, 3]
    placed = np.concatenate([moved, quaternion_from_rotation(ego_from_city[:, :3, :3] @ turned)], axis=1)
    sizes = _array([box["size"] for _, box in boxes], 3)[:, [1, 0, 2]]
    kind = "tracking" if any("tracking_id" in box for _, box in boxes) else "detection"
    identities = {"track_uuid": [str(box["tracking_id"]) for _, box in boxes]} if kind == "tracking" else {}
    write_table(
        path,
        {
            "log_id": [token.rpartition("/")[0] for token, _ in boxes],
            "timestamp_ns": np.array([int(token.rpartition("/")[2]) for token, _ in boxes], np.int64),
            **identities,
            "category": [str(box[f"{kind}_name"]) for _, box in boxes],
            **{name: placed[:, place].copy() for place, name in enumerate(POSE)},
            **{name: sizes[:, place].copy() for place, name in enumerate(SIZE)},
            "score": np.array([box[f"{kind}_score"] for _, box in boxes], np.float64),
        },
    )


def _read(path: Path, dataroot: Path, split: str, classes: Collection[str]) -> bytes:
    table = Table(path, _REMEDY)
    tracked = table.has("track_uuid")
    prefix = "tracking" if tracked else "detection"
    times, poses, sizes = table.integers("timestamp_ns"), table.poses(), table.matrix(SIZE)
    scores = table.numbers("score")
    flat = np.flatnonzero(~(sizes > 0).all(axis=1))
    if flat.size:
        raise table.error(f"row {flat[0]}: size {sizes[flat[0]].tolist()} is not positive")
    category, categories = table.texts("category")
    for name in categories:
        if name not in classes:
            raise table.error(f"column 'category': {name!r} is no class{did_you_mean(name, classes)}")
    log, logs = table.texts("log_id")
    known = set(logs_of(dataroot, split))
    for name in logs:
        if name not in known:
            raise table.error(f"column 'log_id': {name!r} is no log of split {split!r} of {dataroot}")
    track, tracks = table.texts("track_uuid") if tracked else (np.zeros(len(table), np.int64), ("",))
    results: dict[str, list[dict[str, object]]] = {
        token.decode(): []
        for token in open_scene_columns(dataroot, "")[0].sample_tokens.tolist()
        if token.decode().rpartition("/")[0] in known
    }
    for number, name in enumerate(logs):
        rows = np.flatnonzero(log == number)
        tokens = [f"{name}/{time}" for time in times[rows].tolist()]
        strange = next((row for row, token in zip(rows, tokens) if token not in results), None)
        if strange is not None:
            raise table.error(
                f"column 'timestamp_ns', row {strange}: {times[strange]} is no sweep of log {name}"
            )
        centres, turned = _in_city(poses[rows], times[rows], dataroot / split / name)
        for place, (row, token) in enumerate(zip(rows.tolist(), tokens)):
            own = {"tracking_id": tracks[track[row]]} if tracked else {"attribute_name": ""}
            results[token].append(
                {
                    "sample_token": token,
                    "translation": centres[place].tolist(),
                    "size": sizes[row, [1, 0, 2]].tolist(),
                    "rotation": turned[place].tolist(),
                    "velocity": [None, None],
                    f"{prefix}_name": categories[category[row]],
                    f"{prefix}_score": float(scores[row]),
                    **own,
                }
            )
    return orjson.dumps({"meta": {"use_camera": True}, "results": results})


def _in_city(boxes: Numbers, times_ns: Integers, log: Path) -> tuple[Numbers, Numbers]:
    """Centres [N, 3] and quaternions [N, 4] of poses [N, 7] of the ego frame at some times."""
    placed = poses_at(times_ns, log, "a box")
    city_from_ego = rotation_from_quaternion(placed[:, 3:])
    centres = (city_from_ego @ boxes[:, :3, None])[..., 0] + placed[:, :3]
    return centres, quaternion_from_rotation(city_from_ego @ rotation_from_quaternion(boxes[:, 3:]))


def _array(rows: list[list[float]], width: int) -> Numbers:
    return np.array(rows, np.float64).reshape(-1, width)
