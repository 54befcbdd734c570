import pytest
import torch

from syncl.layers.normaliser import NormaliserConfig

PIXEL = torch.tensor([10, 20, 30], dtype=torch.uint8)  # red, green, blue


def _normalise(config: NormaliserConfig) -> list[float]:
    output = config.build()(PIXEL.reshape(1, 1, 3, 1, 1).expand(2, 6, 3, 4, 5))
    assert output.shape == (2, 6, 3, 4, 5)
    assert output.dtype == torch.float32
    return output[1, 3, :, 2, 2].tolist()


def test_statistics_follow_the_networks_channel_order() -> None:
    mean, std = (1.0, 2.0, 4.0), (1.0, 2.0, 5.0)
    assert _normalise(NormaliserConfig(mean, std, "rgb")) == pytest.approx([9, 9, (30 - 4) / 5])
    assert _normalise(NormaliserConfig(mean, std, "bgr")) == pytest.approx([29, 9, (10 - 4) / 5])


def test_statistics_are_no_part_of_a_checkpoint() -> None:
    assert not NormaliserConfig().build().state_dict()
