"""What an object's surroundings looked like in each frame, gathered along its own motion (DORT, Lian et al.,
CoRL 2023).

A grid of points around a box goes back in time with the box's velocity and with the vehicle's motion, and
reads each frame's image features where it is then. If the velocity is right, a point sees the same part of
the object in all frames; with the velocity at 0, which is what views of the ground take for granted, a moving
object's points see what was beside it.

Letters: B streams, Q boxes, G points of a grid, K frames (the present one first), C cameras, F channels.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from syncl.detectors.bevdepth.past_views import FrameImages, PastViews
from syncl.geometry.transforms import transform_points
from syncl.layers.sampling import seen_places, tables_of, taps_of, weighted_samples


@dataclass(frozen=True)
class FrameStack:
    """The images of K frames.

    Attributes:
        images: fields [B, K, ...].
        frame_from_now: [B, K, 4, 4] float64 from the present vehicle frame to that of each frame.
        age_s: [B, K] how long ago each frame was; 0 of the present one.
        valid: [B, K] bool; False = not of the stream's present scene.
        image_size: (height, width) of all images in pixels.
    """

    images: FrameImages
    frame_from_now: Tensor
    age_s: Tensor
    valid: Tensor
    image_size: tuple[int, int]

    @classmethod
    def of(
        cls,
        present: FrameImages,
        past: PastViews,
        past_from_now: Tensor,
        age_s: Tensor,
        image_size: tuple[int, int],
    ) -> "FrameStack":
        """The present frame's images and the remembered ones.

        Args:
            present: fields [B, ...].
            past: of the same streams.
            past_from_now: [B, N, 4, 4] float64.
            age_s: [B, N].
            image_size: (height, width) of all images in pixels.
        """
        images, before = present.map(lambda tensor: tensor[:, None]), past.images_like(present)
        images = FrameImages(
            torch.cat([images.features, before.features], dim=1),
            torch.cat([images.image_from_vehicle, before.image_from_vehicle], dim=1),
            torch.cat([images.camera_valid, before.camera_valid], dim=1),
        )
        here = torch.eye(4, dtype=past_from_now.dtype, device=past.valid.device)
        return cls(
            images,
            torch.cat([here.expand(len(past.valid), 1, 4, 4), past_from_now], dim=1),
            functional.pad(age_s, (1, 0)),
            functional.pad(past.valid, (1, 0), value=True),
            image_size,
        )


class Sampled(NamedTuple):
    """What grids see.

    Attributes:
        features: [B, K, Q, G, F] mean over the cameras that see a point; 0 where none does.
        seen: [B, K, Q, G] bool.
    """

    features: Tensor
    seen: Tensor


def local_grid(
    codes: Tensor, shape: tuple[int, int, int], extent: float, least_m: tuple[float, float, float]
) -> Tensor:
    """Points [B, Q, G, 3] of a grid around each box, turned with it, metres, vehicle frame.

    Args:
        codes: [B, Q, 10].
        shape: points along, across and up; G is their product, the last one fastest.
        extent: length of the grid in lengths of the box, and so on.
        least_m: shortest sides of the grid.
    """
    axes = [torch.linspace(-0.5, 0.5, count, dtype=codes.dtype, device=codes.device) for count in shape]
    unit = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)
    sides = [
        (codes[..., 3 + side].exp() * extent).clamp(min=shortest) for side, shortest in enumerate(least_m)
    ]
    x, y, z = (unit * torch.stack(sides, dim=-1)[..., None, :]).unbind(-1)
    sin, cos = headings(codes)
    turned = torch.stack([x * cos - y * sin, x * sin + y * cos, z], dim=-1)
    return turned + codes[..., None, :3]


def headings(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and cosine [B, Q, 1] of codes' headings, of length 1."""
    length = codes[..., 6:8].norm(dim=-1, keepdim=True).clamp(min=1e-6)
    sin, cos = (codes[..., 6:8] / length).split(1, dim=-1)
    return sin, cos


def sample_along_motion(
    points: Tensor, velocities: Tensor, frames: FrameStack, fixed_shapes: bool = False
) -> Sampled:
    """What points that move with constant velocity over the ground see in every frame.

    Args:
        points: [B, Q, G, 3] where they are now, metres, vehicle frame.
        velocities: [B, Q, 2] m/s over ground, in the axes of the vehicle frame.
        frames: what they look at.
        fixed_shapes: let all points look at all cameras, so that no shape depends on what they see.
    """
    streams, count = frames.valid.shape
    back = velocities[:, None] * frames.age_s.to(points.dtype)[..., None, None]
    moved = torch.cat(
        [
            points[:, None, ..., :2] - back[..., None, :],
            points[:, None, ..., 2:].expand(-1, count, -1, -1, -1),
        ],
        dim=-1,
    )
    there = transform_points(frames.frame_from_now, moved.flatten(2, 3)).flatten(0, 1)
    images = frames.images.map(lambda tensor: tensor.flatten(0, 1))
    looked = images.camera_valid & frames.valid.flatten()[:, None]
    look = _seen_by_all if fixed_shapes else _seen_by_those
    features, cameras = look(there, replace(images, camera_valid=looked), frames.image_size)
    grid = (streams, count, *points.shape[1:3])
    return Sampled(features.view(*grid, -1), (cameras > 0).view(grid))


def _seen_by_those(points: Tensor, images: FrameImages, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What points [N, P, 3] see in images of N frames, in the mean over the cameras that see one, [N, P, F],
    and how many do, [N, P]: by looking up what these cameras see.
    """
    shape = (images.features.shape[-2], images.features.shape[-1])
    taps = taps_of(points, images.image_from_vehicle, images.camera_valid, image_size, (shape,))
    visible = taps.visible.transpose(1, 2).to(points.dtype)
    cameras = visible.sum(-1, keepdim=True)
    weights = (visible / cameras.clamp(min=1))[..., None]
    features = weighted_samples(tables_of((images.features,), points.dtype), taps, weights)
    return features, cameras[..., 0]


def _seen_by_all(points: Tensor, images: FrameImages, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The same up to rounding, by sampling every camera's map, one after the other: all at once would hold
    the points' features once for each camera.
    """
    grid, visible = seen_places(points, images.image_from_vehicle, images.camera_valid, image_size)
    visible = visible.to(points.dtype)
    cameras = visible.sum(1)
    weights = (visible / cameras.clamp(min=1)[:, None])[:, :, None]
    total = torch.zeros_like(points[..., :1]).transpose(1, 2)
    for camera in range(grid.shape[1]):
        places = torch.where(visible[:, camera, :, None] > 0, grid[:, camera], 0.0)
        maps = images.features[:, camera].to(points.dtype)
        sampled = functional.grid_sample(maps, places[:, :, None], align_corners=False)[..., 0]
        total = total + sampled * weights[:, camera]
    return total.transpose(1, 2), cameras


def search(sampled: Sampled, shape: tuple[int, int, int]) -> Tensor:
    """How alike a point now and its neighbours then look: [B, K - 1, Q, G, 9] cosines, 0 where unseen.

    Neighbours are the point itself and the eight around it along and across the grid: whichever is most alike
    says where to the past really was. Beyond the grid's border nobody is alike.

    Args:
        sampled: what grids see.
        shape: points along, across and up.
    """
    seen = sampled.seen[..., None]
    unit = functional.normalize(sampled.features, dim=-1) * seen
    now, then = unit.unflatten(3, shape).split((1, unit.shape[1] - 1), dim=1)
    along, across = shape[:2]
    # Behind the points: channels and height stay, the two directions over ground get a border.
    then = functional.pad(then, (0, 0, 0, 0, 1, 1, 1, 1))
    alike = [(now * then[:, :, :, i : i + along, j : j + across]).sum(-1) for i in range(3) for j in range(3)]
    return torch.stack(alike, dim=-1).flatten(3, 5)


def correspondence(sampled: Sampled, groups: int) -> Tensor:
    """How alike past and present look at each point: [B, K - 1, Q, G, groups], 0 where one is not seen.

    Inner products of groups of channels, in the mean over a group.
    """
    features = sampled.features.unflatten(-1, (groups, -1))
    alike: Tensor = (features[:, :1] * features[:, 1:]).mean(-1)
    return alike * (sampled.seen[:, :1] & sampled.seen[:, 1:])[..., None]
