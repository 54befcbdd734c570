import torch

from syncl.layers.grid_mask import GridMask


def test_does_nothing_outside_training_or_at_probability_zero() -> None:
    images = torch.randn(2, 3, 8, 12)
    assert GridMask(1.0).eval()(images) is images
    assert GridMask(0.0).train()(images) is images


def test_one_mask_for_all_images_of_crossing_stripes_half_a_period_wide() -> None:
    mask = GridMask(1.0).train()
    periods = set()
    for seed in range(20):
        torch.manual_seed(seed)
        kept = mask(torch.ones(2, 3, 40, 56))
        assert set(kept.unique().tolist()) <= {0.0, 1.0}
        assert torch.equal(kept, kept[:1, :1].expand_as(kept))
        rows, columns = kept[0, 0].all(dim=1), kept[0, 0].all(dim=0)
        if not rows.any() or not columns.any():
            continue  # a long period can leave no stripe of one direction inside the image
        assert torch.equal(kept[0, 0].bool(), rows[:, None] | columns[None])
        starts = (rows[1:] & ~rows[:-1]).nonzero().flatten()
        if len(starts) > 1:
            period = int(starts[1] - starts[0])
            assert torch.equal(starts.diff(), torch.full_like(starts.diff(), period))
            first = int(starts[0]) + 1
            assert int(rows[first : first + period].sum()) == int(period * 0.5 + 0.5)
            periods.add(period)
    assert len(periods) > 3


def test_is_applied_with_the_given_probability() -> None:
    torch.manual_seed(0)
    mask, images = GridMask(0.7).train(), torch.ones(1, 1, 8, 8)
    applied = sum(mask(images) is not images for _ in range(2000)) / 2000
    assert abs(applied - 0.7) < 0.04
