"""Padding of images: after normalising, to the right and below, seen by nobody."""

from dataclasses import replace

import pytest
import torch

from rig import make_frame, tiny_encoder
from syncl.detectors import Detr3dConfig, PetrConfig, Petrv2Config, StreamPetrConfig

ENCODER = replace(tiny_encoder(), divisor=32)


def test_images_are_padded_right_and_below():
    encoder = ENCODER.build()
    frame = make_frame(size=(50, 70))
    padded = encoder.pad(frame)
    assert padded.image_size == (64, 96)
    assert padded.content_size.tolist() == frame.content_size.tolist()
    assert torch.equal(padded.images[..., :50, :70], frame.images)
    fitting = make_frame(size=(64, 96))
    assert encoder.pad(fitting) is fitting


def test_padding_is_zero_after_normalising_whatever_its_pixels():
    encoder = ENCODER.build().eval()
    seen = []
    encoder.backbone.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    frame = encoder.pad(make_frame(size=(50, 70)))
    levels = encoder(frame)
    assert seen[0].shape[-2:] == (64, 96)
    assert not seen[0][..., 50:, :].any() and not seen[0][..., 70:].any()
    assert seen[0][..., :50, :70].any()
    painted = frame.images.clone()
    painted[..., 50:, :] = 255
    painted[..., 70:] = 200
    for ours, theirs in zip(levels, encoder(replace(frame, images=painted)), strict=True):
        assert torch.equal(ours, theirs)


def test_unpadded_images_pass_unchanged():
    encoder = ENCODER.build().eval()
    seen = []
    encoder.backbone.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    frame = make_frame(size=(64, 96))
    encoder(frame)
    assert torch.equal(seen[0], encoder.normaliser(frame.images).flatten(0, 1))


@pytest.mark.parametrize("config", [Detr3dConfig, PetrConfig, Petrv2Config, StreamPetrConfig])
def test_detectors_take_images_of_any_size(config):
    sizes = {"dim": 32, "heads": 4, "layers": 2, "hidden": 48, "queries": 5}
    if config is Detr3dConfig:
        sizes["cameras"] = 2
    if config is StreamPetrConfig:
        sizes |= {"propagated": 2, "memory_slots": 8, "objects_a_frame": 2}
    detector = config(ENCODER, ("car", "bus"), **sizes).build().eval()
    with torch.no_grad():
        features = detector.encode(make_frame(size=(50, 70)))
        (predictions,) = detector.decode(detector.initial_queries(features), features)
    assert features.image_size == (64, 96)
    assert torch.isfinite(predictions.codes).all()


def test_petr_attends_no_cell_of_the_padding_alone():
    # Stride 8 and nearest pixels: the cell in row 7 starts at pixel 56, column 9 at pixel 72.
    detector = PetrConfig(ENCODER, ("car",), queries=5, dim=32, heads=4, layers=1, hidden=48).build().eval()
    with torch.no_grad():
        features = detector.encode(make_frame(size=(50, 70)))
    rows, columns = 64 // detector.image_encoder.strides[0], 96 // detector.image_encoder.strides[0]
    valid = features.token_valid.view(2, rows, columns)
    stride = detector.image_encoder.strides[0]
    for row in range(rows):
        for column in range(columns):
            inside = row * stride < 50 and column * stride < 70
            assert bool(valid[0, row, column]) == inside
