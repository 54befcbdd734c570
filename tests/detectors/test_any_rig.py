"""DETR3D whose cameras share their weights: any number, any order, any lens."""

import dataclasses
import math
from functools import partial
from pathlib import Path

import pytest
import torch

import rig
from rig import DETECTORS
from syncl.checkpoints.model_file import initialise_from, save_model
from syncl.detectors.detr3d import Detr3d, Detr3dConfig
from syncl.detectors.refining_detector import Anchors
from syncl.errors import SynclError
from syncl.layers.sampling import log_pixel_scales
from syncl.structures import CameraRig, Frame, Predictions
from syncl.trackers.model import InputConfig, ModelConfig

make_frame = partial(rig.make_frame, size=(64, 96))


def make_detector(cameras: int | None = None) -> Detr3d:
    """Tiny, with weights all over, as after training."""
    torch.manual_seed(0)
    config = DETECTORS["detr3d"]
    assert isinstance(config, Detr3dConfig)
    detector = dataclasses.replace(config, cameras=cameras).build().eval()
    for parameter in detector.layers.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return detector


@torch.no_grad()
def predict(detector: Detr3d, frame: Frame) -> Predictions:
    features = detector.encode(frame)
    return detector.decode(detector.initial_queries(features), features)[0]


@pytest.mark.parametrize("cameras", [1, 3, 8])
def test_it_takes_any_number_of_cameras_and_ignores_silent_ones(cameras: int) -> None:
    detector = make_detector()
    frame = make_frame(cameras=cameras)
    assert torch.isfinite(predict(detector, frame).codes).all()
    more = make_frame(cameras=cameras + 1)
    images = torch.cat([frame.images, more.images[:, -1:]], dim=1)
    matrices = [
        torch.cat([getattr(frame.rig, name), getattr(more.rig, name)[:, -1:]], dim=1)
        for name in ("image_from_camera", "camera_from_vehicle")
    ]
    valid = torch.ones(1, cameras + 1, dtype=torch.bool)
    valid[:, -1] = False
    silent = dataclasses.replace(
        more, images=images, rig=CameraRig(more.rig.names, *matrices), camera_valid=valid
    )
    torch.testing.assert_close(predict(detector, silent).codes, predict(detector, frame).codes)


def test_the_order_of_cameras_does_not_matter() -> None:
    detector, frame = make_detector(), make_frame(cameras=4)
    order = [2, 0, 3, 1]
    other = CameraRig(
        tuple(frame.rig.names[camera] for camera in order),
        frame.rig.image_from_camera[:, order],
        frame.rig.camera_from_vehicle[:, order],
    )
    permuted = dataclasses.replace(frame, images=frame.images[:, order], rig=other)
    expected = predict(detector, frame).logits
    torch.testing.assert_close(predict(detector, permuted).logits, expected, rtol=1e-4, atol=1e-4)


def test_scales_are_what_a_metre_across_the_view_has_in_pixels() -> None:
    frame = make_frame(cameras=1, focal_px=50.0)
    projection = frame.rig.image_from_vehicle
    points = torch.tensor([[[10.0, 0.5, 0.2], [4.0, -1.0, 0.0], [-4.0, 0.0, 0.0]]])
    visible = torch.tensor([[[True, True, False]]])
    scales = log_pixel_scales(points, projection, visible)[0, :, 0]
    homogeneous = torch.nn.functional.pad(points.double(), (0, 1), value=1)
    step = frame.rig.camera_from_vehicle[0, 0, 0, :4] * torch.tensor([1.0, 1.0, 1.0, 0.0])
    for place in range(2):
        pixels = [
            (projection[0, 0] @ (homogeneous[0, place] + shift))[:3] for shift in (torch.zeros(4), step)
        ]
        u = [float(pixel[0] / pixel[2]) for pixel in pixels]
        assert float(scales[place].exp()) == pytest.approx(u[1] - u[0], rel=1e-5)
    assert scales[2] == 0


def test_the_same_pixels_through_another_lens_are_something_else() -> None:
    detector = make_detector()
    references = torch.tensor([[[10.0, 0.5, 0.2]]])
    visible = torch.ones(1, 1, 1, dtype=torch.bool)
    narrow, wide = (make_frame(cameras=1, focal_px=focal, seed=0) for focal in (90.0, 45.0))
    scales = [log_pixel_scales(references, frame.rig.image_from_vehicle, visible) for frame in (narrow, wide)]
    torch.testing.assert_close(scales[0] - scales[1], torch.full_like(scales[0], math.log(2)))
    attention = detector.layers[0].cross_attention
    content = torch.zeros(1, 1, detector.dim)
    features = detector.encode(narrow)
    sight = detector.looking(features, torch.float32)(0, [Anchors(references, references, None)])[0]
    told = [attention(content, content, sight._replace(scales=scale)) for scale in scales]
    assert not torch.allclose(*told)


def test_it_starts_from_the_mean_of_a_rigs_cameras(tmp_path: Path) -> None:
    source, tracker = make_detector(cameras=3), rig.TRACKERS["mutr3d"]
    for layer in source.layers:
        weights = layer.cross_attention.attention_weights
        with torch.no_grad():
            for parameter in (weights.weight, weights.bias):
                parameter.copy_(
                    parameter[: weights.out_features // 3].repeat(3, *[1] * (parameter.dim() - 1))
                )
    config = ModelConfig(InputConfig((64, 96)), source.config, tracker)
    path = tmp_path / "rig.safetensors"
    save_model(path, tracker.build(source).state_dict(), config)
    torch.manual_seed(1)
    ours = tracker.build(dataclasses.replace(source.config, cameras=None).build()).eval()
    report = initialise_from(ours, path)
    assert not report.unused and all("scale_encoder" in name for name in report.fresh)
    frame = make_frame(cameras=3)
    torch.testing.assert_close(predict(ours.detector, frame).codes, predict(source, frame).codes)


@pytest.mark.parametrize("kind", ["mutr3d_detr3d", "bevformer"])
def test_detectors_with_more_weights_for_each_camera_cannot_be_for_any_rig(kind: str) -> None:
    with pytest.raises(SynclError, match=r"cameras=null: .* has weights for each camera"):
        dataclasses.replace(DETECTORS[kind], cameras=None).build()
