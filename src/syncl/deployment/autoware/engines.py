"""The three programs of Autoware's node `autoware_camera_streampetr`, of a StreamPETR of this library.

The node (autoware_universe, perception/) runs an image backbone, a position embedding once a calibration, and
a head whose memory goes in and out. It finds inputs and outputs by name, keeps the clock, and tells poses
relative to its first one, so float32 is enough. Its axes are those of `base_link`.

Letters: N cameras, H W image, h w cells of the attended level, S = N h w tokens, D channels, M memory rows,
T objects a frame, L layers, Q queries, K classes.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from syncl.detectors.streampetr import ObjectMemory, StreamPetr
from syncl.errors import SynclError
from syncl.geometry.transforms import transform_points
from syncl.layers.decoder import TokenSequence
from syncl.structures import CameraRig, Frame
from syncl.trackers import Tracker
from syncl.trackers.inputs import InputConfig

# What the node takes off pixels and divides them by, channel by channel as the message has them.
NODE_MEAN, NODE_STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
MEMORY = ("embedding", "reference_point", "timestamp", "egopose", "velo")
INPUTS: dict[str, tuple[str, ...]] = {
    "simplify_extract_img_feat": ("img",),
    "simplify_position_embedding": ("img_metas_pad", "intrinsics", "img2lidar"),
    "simplify_pts_head_memory": (
        *("x", "pos_embed", "cone", "data_ego_pose", "data_ego_pose_inv"),
        *(f"pre_memory_{name}" for name in MEMORY),
    ),
}
"""The files' stems, which are the node's defaults, and the names of their inputs in order."""
OUTPUTS: dict[str, tuple[str, ...]] = {
    "simplify_extract_img_feat": ("img_feats",),
    "simplify_position_embedding": ("pos_embed", "cone"),
    "simplify_pts_head_memory": (
        *("all_cls_scores", "all_bbox_preds"),
        *(f"post_memory_{name}" for name in MEMORY),
    ),
}
"""The same of outputs."""


def fitting_detector(tracker: Tracker, config: InputConfig) -> StreamPetr:
    """The detector of a model that fits the node.

    Raises:
        SynclError: it does not, saying why.
    """
    detector, reason = tracker.detector, None
    if not isinstance(detector, StreamPetr):
        name = type(detector).__name__.removeprefix("Aided")
        reason = f"the node runs StreamPETR, and this model's detector is {name}"
    elif detector.config.proposals is not None:
        reason = (
            "the node's head sees one feature level and no projections, which this model's proposals need; "
            "train with model.detector.proposals=null"
        )
    elif not tracker.stepping_part().detects_only:
        reason = (
            f"the node has no inputs for the track queries of {type(tracker).__name__}: it detects, and a "
            "node behind it ties detections together"
        )
    elif config.vehicle_frame != "ego":
        reason = (
            "the node tells and is told places in base_link (x ahead), and this model's are in the frame of "
            "LIDAR_TOP (y ahead)"
        )
    elif any(side % detector.image_encoder.divisor for side in config.image_size):
        reason = (
            f"the node hands over images as they are, and {config.image_size[0]} x {config.image_size[1]} "
            f"pixels would have to be padded to multiples of {detector.image_encoder.divisor}"
        )
    if reason is not None or not isinstance(detector, StreamPetr):
        raise SynclError(f"--abi autoware: {reason}; --abi syncl has no such limits")
    return detector


class ImageFeatures(nn.Module):
    """`img` [1, N, 3, H, W], normalised by the node, RGB, to `img_feats` [1, N, D, h, w].

    The node's normalisation is undone and the weights' own done, so they need not be the same.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, detector: StreamPetr) -> None:
        super().__init__()
        self.encoder = detector.image_encoder
        self.level = detector.config.attended_level
        self.register_buffer("mean", torch.tensor(NODE_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(NODE_STD)[:, None, None])

    def forward(self, img: Tensor) -> tuple[Tensor]:
        """See the class."""
        pixels = self.encoder.normaliser(img * self.std + self.mean)
        levels = self.encoder.neck(self.encoder.backbone(pixels.flatten(0, 1)))
        return (levels[self.level][None],)


class PositionEmbedding(nn.Module):
    """`img_metas_pad` [3], `intrinsics` and `img2lidar` [1, N, 4, 4] to `pos_embed` [1, S, D] and `cone`
    [1, S, 8].
    """

    def __init__(self, detector: StreamPetr, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.tokens = detector.tokens
        self.image_size = image_size
        stride = detector.image_encoder.strides[detector.config.attended_level]
        self.grid = (image_size[0] // stride, image_size[1] // stride)

    def forward(self, img_metas_pad: Tensor, intrinsics: Tensor, img2lidar: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        positions, cone = self.tokens.rays(img2lidar, intrinsics, self.image_size, self.grid)
        # The sizes are fixed, but the node looks for the input, and a program keeps those that it uses.
        return positions + img_metas_pad.clamp(0, 0).sum(), cone


class HeadWithMemory(nn.Module):
    """Features, position embedding and M remembered objects to what all layers see, and M + T objects.

    Inputs and outputs are `INPUTS` and `OUTPUTS`: `x` [1, N, D, h, w], `pos_embed` [1, S, D], `cone`
    [1, S, 8], `data_ego_pose` and its inverse [1, 4, 4], the memory [1, M, D or 3 or 1 or 4 x 4 or 2]; class
    logits [1, K, L Q], box codes [1, 10, L Q] (the library's, which are the node's) and the memory with T
    rows in front. Remembered times are ages, 0 in new rows.
    """

    def __init__(self, detector: StreamPetr, cameras: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.detector = detector
        self.cameras = cameras
        self.image_size = image_size

    def forward(
        self,
        x: Tensor,
        pos_embed: Tensor,
        cone: Tensor,
        data_ego_pose: Tensor,
        data_ego_pose_inv: Tensor,
        *remembered: Tensor,
    ) -> tuple[Tensor, ...]:
        """See the class."""
        embeddings, references, ages, poses, velocities = remembered
        frame = _standing(x, self.cameras, self.image_size)
        # In the vehicle's own frame, by a clock that is 0 now.
        memory = ObjectMemory(
            embeddings=embeddings,
            references=transform_points(data_ego_pose_inv, references),
            velocities=velocities,
            global_from_vehicle=data_ego_pose_inv[:, None] @ poses,
            timestamps_s=-ages[..., 0],
            started=torch.ones(1, dtype=torch.bool, device=x.device),
        )
        detector = self.detector
        keys, values = detector.tokens.told(x, pos_embed, cone)
        features = detector.remembering(frame, memory, TokenSequence(keys, values, None))
        (predictions,) = detector.decode(detector.initial_queries(features), features)
        # What is pushed drives out as many rows, which are nothing.
        count = detector.config.objects_a_frame
        roomy = memory.map(lambda rows: _followed(rows, count) if rows.dim() > 1 else rows)
        after = detector.remember(None, frame, replace(features, memory=roomy), predictions)
        told = (
            predictions.logits.flatten(0, 2)[None].transpose(1, 2),
            predictions.codes.flatten(0, 2)[None].transpose(1, 2),
            after.embeddings,
            transform_points(data_ego_pose, after.references),
            -after.timestamps_s[..., None],
            data_ego_pose[:, None] @ after.global_from_vehicle,
            after.velocities,
        )
        return tuple(tensor.clone() for tensor in told)


def _followed(rows: Tensor, count: int) -> Tensor:
    """Rows [1, M, ...] with as many of zeros behind them."""
    return torch.cat([rows, rows.new_zeros(1, count, *rows.shape[2:])], dim=1)


def _standing(like: Tensor, cameras: int, image_size: tuple[int, int]) -> Frame:
    """A frame of a vehicle in its own origin, now, of which nobody asks what its cameras see."""
    pose = torch.eye(4, dtype=like.dtype, device=like.device)
    every = pose.expand(1, cameras, 4, 4)
    names = tuple(map(str, range(cameras)))
    return Frame(
        images=like.new_zeros(1).expand(1, cameras, 3, *image_size),
        rig=CameraRig(names, every[..., :3, :3], every),
        camera_valid=torch.ones(1, cameras, dtype=torch.bool, device=like.device),
        content_size=torch.tensor(image_size, device=like.device).expand(1, cameras, 2),
        global_from_vehicle=pose[None],
        timestamp_s=like.new_zeros(1),
        scenes=("",),
        samples=("",),
    )
