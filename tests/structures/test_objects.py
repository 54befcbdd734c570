"""What trackers report, as people read it."""

import math
import sys
from types import ModuleType

import pytest
import torch

from syncl.errors import SynclError
from syncl.structures import Objects

BOX = [10.0, -2.0, 0.5, 4.5, 1.9, 1.6, math.pi / 2, 3.0, 4.0]


def make_objects(streams: int = 1) -> Objects:
    """Two objects a stream in four padded rows: a bus with identity 7, a car that is no track."""
    boxes = torch.zeros(streams, 4, 9)
    boxes[:, 1] = torch.tensor(BOX)
    return Objects(
        boxes=boxes,
        labels=torch.tensor([[0, 1, 0, 0]]).expand(streams, 4),
        scores=torch.full((streams, 4), 0.75),
        identities=torch.tensor([[-1, 7, -1, -1]]).expand(streams, 4),
        valid=torch.tensor([[False, True, True, False]]).expand(streams, 4),
        classes=("car", "bus"),
    )


def test_objects_are_counted_and_iterated_without_padding():
    bus, car = make_objects()
    assert len(make_objects()) == 2 and len(make_objects(3)) == 6
    assert (bus.identity, bus.class_name, bus.score) == (7, "bus", 0.75)
    assert bus.center_m == (10.0, -2.0, 0.5) and bus.size_lwh_m == pytest.approx((4.5, 1.9, 1.6))
    assert bus.speed_m_s == 5.0 and bus.yaw_rad == pytest.approx(math.pi / 2)
    assert (car.identity, car.class_name) == (None, "car")
    assert [tracked.stream for tracked in make_objects(2)] == [0, 0, 1, 1]


def test_objects_print_as_a_count_and_each_as_a_line():
    assert repr(make_objects()) == "<Objects: 2: 1 bus, 1 car>"
    assert repr(make_objects(2)) == "<Objects: 4 in 2 streams: 2 bus, 2 car>"
    bus, car = map(str, make_objects())
    assert bus == "bus 7: score 0.75, at (10.0, -2.0, 0.5) m, 4.5 x 1.9 x 1.6 m, heading 90 degrees, 5.0 m/s"
    assert car.startswith("car: score 0.75")


def test_no_objects_are_a_report_too():
    none = make_objects().map(lambda tensor: tensor[:, :0])
    assert len(none) == 0 and list(none) == [] and none and repr(none) == "<Objects: 0>"


def test_records_are_flat_and_become_a_table(monkeypatch):
    records = make_objects().to_records()
    assert records[0]["x_m"] == 10.0 and records[0]["class"] == "bus" and "stream" not in records[0]
    assert records[1]["identity"] is None and make_objects(2).to_records()[2]["stream"] == 1
    table = ModuleType("pandas")
    table.DataFrame = list  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", table)
    assert make_objects().to_pandas() == records
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SynclError, match="pip install pandas"):
        make_objects().to_pandas()
