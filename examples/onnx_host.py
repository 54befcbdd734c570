"""Run an exported model with numpy and onnxruntime alone: the whole of a host's duties.

    syncl export model.safetensors --output my_export
    python examples/onnx_host.py my_export             # checks the golden frames

A host of your own does what `Host.step` does, in any language.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime


class Host:
    """Tracks one stream.

    Args:
        folder: that `syncl export` wrote.
        providers: of onnxruntime, the preferred one first.
    """

    def __init__(self, folder: Path, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text())
        if self.manifest["format"] != "syncl-export-1":
            raise ValueError(f"{folder}: {self.manifest['format']} is another version")
        if self.manifest.get("chosen_by") == "the host":
            raise ValueError(f"{folder}: BEVDepth's candidates are left to the host, which is not shown here")
        # Of a detector's objects alone a host may take what is told as it is.
        self.leaves_pairs = self.manifest.get("associated_by") == "the host" and self.manifest["slots"] > 0
        program = folder / self.manifest["program"]["file"]
        self.session = onnxruntime.InferenceSession(program, providers=list(providers))
        self.names = [entry.name for entry in self.session.get_inputs()]
        self.told = [entry.name for entry in self.session.get_outputs()]
        types = {row["name"]: row["dtype"] for row in self.manifest["inputs"]}
        # An empty slot, and a stream that has seen nothing.
        self.state = {
            row["name"]: np.full(row["shape"], row["fill"], types[row["name"]])
            for row in self.manifest["state"]["tensors"]
            if row["name"] in types
        }
        self.pose, self.time_s, self.scene = np.eye(4), 0.0, None

    def step(
        self,
        images: np.ndarray,
        intrinsics: np.ndarray,
        camera_from_vehicle: np.ndarray,
        valid: np.ndarray,
        pose: np.ndarray,
        time_s: float,
        scene: str = "drive",
        ego_from_vehicle: np.ndarray | None = None,
        readings: np.ndarray | None = None,
    ) -> list[dict]:
        """The objects of a frame, in its vehicle frame.

        Args:
            images: [C, 3, H, W] uint8 RGB, undistorted, resized as the manifest says; cameras in its order.
            intrinsics: [C, 3, 3] in pixels of these images.
            camera_from_vehicle: [C, 4, 4], at the time of the pose.
            valid: [C] bool, False where a camera delivered nothing; its image is then black.
            pose: [4, 4] global_from_vehicle.
            time_s: seconds, later than the frame before.
            scene: a new name starts anew.
            ego_from_vehicle: see `motion`; of models on BEVFormer.
            readings: the same.
        """
        if self.leaves_pairs:
            raise ValueError("ADA-Track's pairs are left to the host (docs/deployment.md), not shown here")
        projections = np.zeros((len(intrinsics), 4, 4))
        projections[:, :3, :3], projections[:, 3, 3] = intrinsics, 1
        projections = projections @ camera_from_vehicle
        same, elapsed = scene == self.scene, time_s - self.time_s
        if same and elapsed <= 0:
            raise ValueError(f"frame at {time_s} s is not later than the one before, at {self.time_s} s")
        longest = self.manifest["longest_gap_s"]
        continued = same and (longest is None or elapsed <= longest)
        height, width = images.shape[-2:]
        given = self.state | {
            "images": images,
            "content_size": np.tile(np.array([height, width]), (len(images), 1)),
            "camera_valid": valid,
            "image_from_camera": intrinsics.astype(np.float32),
            "image_from_vehicle": projections.astype(np.float32),
            "vehicle_from_image": np.linalg.inv(projections).astype(np.float32),
            # In float64, of poses that may be kilometres from the map's origin.
            "now_from_before": (np.linalg.inv(pose) @ self.pose).astype(np.float32),
            "elapsed_s": np.float32(elapsed if continued else 0),
            "same_scene": np.bool_(same),
            "continued": np.bool_(continued),
        }
        if "motion" in self.names:
            before = self.pose if continued else None
            given |= zip(("motion", "shift_m"), motion(pose, before, ego_from_vehicle, readings))
        told = self.run(
            {name: given[name] if name in self.state else given[name][None] for name in self.names}
        )
        self.state = {name: told[f"next_{name}"] for name in self.state}
        self.pose, self.time_s, self.scene = pose, time_s, scene
        return [
            {
                "identity": int(told["objects_identities"][0, row]),
                "class": self.manifest["classes"][told["objects_labels"][0, row]],
                "score": float(told["objects_scores"][0, row]),
                "box": told["objects_boxes"][0, row],
            }
            for row in np.flatnonzero(told["objects_valid"][0])
        ]

    def run(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the program tells."""
        return dict(zip(self.told, self.session.run(self.told, given)))


def motion(
    pose: np.ndarray,
    before: np.ndarray | None,
    ego_from_vehicle: np.ndarray | None = None,
    readings: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What models on BEVFormer are told of the vehicle besides: 18 numbers, and how far it went, metres.

    Args:
        pose: [4, 4] global_from_vehicle.
        before: of the frame before; None where the stream starts anew.
        ego_from_vehicle: [4, 4] how the vehicle frame is mounted, of models in the frame of a lidar.
        readings: [9] acceleration, rotation rate and velocity along the vehicle's axes; 0 if not measured.
    """
    mounted = np.eye(4) if ego_from_vehicle is None else ego_from_vehicle
    ego, last = (
        each @ np.linalg.inv(mounted) if ego_from_vehicle is not None else each
        for each in (pose, pose if before is None else before)
    )
    heading, heading_before = (np.degrees(np.arctan2(m[1, 0], m[0, 0])) % 360 for m in (ego, last))
    # The eigenvector of the largest eigenvalue, which is well conditioned for every rotation.
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = ego[:3, :3]
    products = [
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ]
    quaternion = np.linalg.eigh(np.array(products))[1][:, -1]
    quaternion = quaternion if quaternion[0] >= 0 else -quaternion
    changes, turn = ego[:3, 3] - last[:3, 3], heading - heading_before
    quarter = np.pi / 2
    mounting = np.round(np.arctan2(mounted[1, 0], mounted[0, 0]) / quarter) * quarter
    way = np.arctan2(changes[1], changes[0]) - np.radians(heading) - mounting
    shift = np.hypot(*changes[:2]) * np.array([np.cos(way), np.sin(way)])
    read = np.zeros(9) if readings is None else readings
    numbers = np.concatenate([changes, quaternion, read, [np.radians(heading), turn]])
    return numbers.astype(np.float32), shift.astype(np.float32)


def check(folder: Path) -> float:
    """The largest difference of a reported box from the golden frames; identities and classes must be equal,
    in whatever order: the last bits of nearly equal scores decide which object comes first.
    """
    host, worst = Host(folder), 0.0
    with np.load(folder / "golden.npz") as golden:
        for number in range(host.manifest["golden_frames"]):
            told = host.run({name: golden[f"{number}/in/{name}"] for name in host.names})
            expected = {name: golden[f"{number}/out/{name}"] for name in host.told}
            (ours, boxes), (theirs, others) = reported(told), reported(expected)
            if sorted(ours.tolist()) != sorted(theirs.tolist()):
                raise ValueError(f"golden frame {number}: identities or classes differ")
            if not np.array_equal(told["next_next_identity"], expected["next_next_identity"]):
                raise ValueError(f"golden frame {number}: next_next_identity differs")
            # What is no number is as far as can be.
            apart = np.nan_to_num(np.abs(boxes[:, None] - others), nan=np.inf)
            apart[..., 6] = np.minimum(apart[..., 6], np.abs(apart[..., 6] - 2 * np.pi))
            same = (ours[:, None] == theirs).all(-1)
            nearest = np.where(same, apart.max(-1), np.inf).min(0, initial=np.inf)
            worst = max(worst, float(nearest.max(initial=0)))
    return worst


def reported(told: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Identity and class [M, 2], and boxes [M, 9], of the valid objects."""
    rows = told["objects_valid"][0]
    names = np.stack([told["objects_identities"][0], told["objects_labels"][0]], axis=1)
    return names[rows], told["objects_boxes"][0, rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", type=Path)
    print(f"golden frames: largest difference of a box's number {check(parser.parse_args().export):.1e}")


if __name__ == "__main__":
    main()
