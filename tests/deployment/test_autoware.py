"""StreamPETR as Autoware's node runs it: names, shapes, its parameter file, and the same numbers."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import rig
from exporting import QUERIES
from rig import make_frame
from syncl.checkpoints.model_file import save_model
from syncl.deployment.autoware.engines import INPUTS, OUTPUTS, fitting_detector
from syncl.deployment.autoware.node_folder import (
    PARAMETERS,
    Node,
    differences,
    parameters,
    programs_of,
    write_autoware,
)
from syncl.deployment.exported import open_model
from syncl.errors import SynclError
from syncl.trackers import GreedyConfig, Mutr3dConfig, SingleFrameConfig, TrackerConfig
from syncl.trackers.inputs import InputConfig
from syncl.trackers.model import ModelConfig

SIZE = (rig.HEIGHT, rig.WIDTH)
DRIVE = [
    dataclasses.replace(frame, timestamp_s=frame.timestamp_s + 1.8e9)
    for frame in (make_frame(0.5 * number, speed_m_s=4.0) for number in range(5))
]


DETECTS = SingleFrameConfig()


def config(tracker: object = DETECTS, detector: str = "streampetr", **changes: object) -> ModelConfig:
    made = dataclasses.replace(rig.DETECTORS[detector], **changes)
    return ModelConfig(InputConfig(SIZE, vehicle_frame="ego"), made, tracker)


def build(made: ModelConfig) -> torch.nn.Module:
    torch.manual_seed(0)
    tracker = made.build().eval()
    # Motion norms of a fresh model ignore what moved.
    with torch.no_grad():
        for name, weight in tracker.named_parameters():
            if "norm.scale" in name or "norm.shift" in name:
                weight.normal_(0, 0.1)
    return tracker


def test_programs_driven_as_the_node_drives_them_say_what_the_model_says() -> None:
    detector = build(config()).detector
    programs = programs_of(detector, 2, SIZE)
    logits, codes = differences(programs, detector, DRIVE)
    assert logits < 1e-4 and codes < 1e-3
    moved = dataclasses.replace(DRIVE[2], global_from_vehicle=rig.pose(900.0, 5.0, 1.0)[None])
    assert max(differences(programs, detector, [*DRIVE[:2], moved])) < 1e-3


def test_a_program_that_tells_no_numbers_does_not_agree() -> None:
    class Blind(nn.Module):
        def __init__(self, head: nn.Module) -> None:
            super().__init__()
            self.head = head

        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            return tuple(told * torch.nan for told in self.head(*given))

    detector = build(config()).detector
    programs = programs_of(detector, 2, SIZE)
    (*_, head) = programs
    assert differences({**programs, head: Blind(programs[head])}, detector, DRIVE[:1]) == (
        torch.inf,
        torch.inf,
    )


def test_names_and_shapes_are_the_nodes() -> None:
    detector = build(config()).detector
    programs = programs_of(detector, 2, SIZE)
    given = Node(detector, DRIVE[0], programs).first
    slots, count, dim = detector.config.memory_slots, detector.config.objects_a_frame, detector.dim
    queries = len(detector.layers) * detector.query_count
    found = {}
    for stem, program in programs.items():
        assert {*INPUTS[stem]} <= given.keys()
        with torch.no_grad():
            told = program(*(given[name] for name in INPUTS[stem]))
        found |= {name: tuple(tensor.shape) for name, tensor in zip(OUTPUTS[stem], told, strict=True)}
        assert all(tensor.dtype == torch.float32 for tensor in told)
    cells = found["img_feats"][-2] * found["img_feats"][-1]
    assert found == {
        "img_feats": (1, 2, dim, *found["img_feats"][-2:]),
        "pos_embed": (1, 2 * cells, dim),
        "cone": (1, 2 * cells, 8),
        "all_cls_scores": (1, len(detector.classes), queries),
        "all_bbox_preds": (1, 10, queries),
        "post_memory_embedding": (1, slots + count, dim),
        "post_memory_reference_point": (1, slots + count, 3),
        "post_memory_timestamp": (1, slots + count, 1),
        "post_memory_egopose": (1, slots + count, 4, 4),
        "post_memory_velo": (1, slots + count, 2),
    }


def test_the_parameter_file_is_the_nodes() -> None:
    tracker = build(config())
    text = parameters(tracker.detector, tracker, 2, SIZE)
    assert text.startswith("/**:\n  ros__parameters:\n    model_params:\n      class_names: [")
    assert "      detection_range: [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]\n" in text
    slots, count = tracker.detector.config.memory_slots, tracker.detector.config.objects_a_frame
    assert text.endswith(f"      pre_memory_length: {slots}\n      post_memory_length: {slots + count}\n")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (config(detector="petr"), "the node runs StreamPETR, and this model's detector is Petr"),
        (config(Mutr3dConfig(heads=4, hidden=32)), "no inputs for the track queries of Mutr3d"),
        (
            dataclasses.replace(config(), input=InputConfig(SIZE, vehicle_frame="lidar")),
            "this model's are in the frame of LIDAR_TOP",
        ),
        (dataclasses.replace(config(), detector=rig.SMALL["streampetr"]()), "this model's proposals need"),
    ],
)
def test_what_does_not_fit_the_node_is_refused_with_the_reason(made: ModelConfig, reason: str) -> None:
    with torch.device("meta"):
        tracker = made.build()
    with pytest.raises(SynclError, match=reason):
        fitting_detector(tracker, made.input)


@pytest.mark.parametrize("pairing", [GreedyConfig(), QUERIES], ids=["greedy", "dqtrack"])
def test_pairing_is_left_to_autoware(pairing: TrackerConfig) -> None:
    made = config(pairing)
    tracker = build(made)
    detector = fitting_detector(tracker, made.input)
    assert detector is tracker.detector
    assert parameters(detector, tracker, 2, SIZE) == parameters(detector, build(config()), 2, SIZE)


def test_formats_that_the_node_does_not_build_are_refused(tmp_path: Path) -> None:
    from syncl.commands.export import export

    made = config(detector="petr")
    save_model(tmp_path / "model.safetensors", build(made).state_dict(), made)
    with pytest.raises(SynclError, match="leave --format and --precision out"):
        export(tmp_path / "model.safetensors", output=tmp_path / "out", abi="autoware", precision="float16")
    with pytest.raises(SynclError, match="--abi autoware: the node runs StreamPETR"):
        export(tmp_path / "model.safetensors", output=tmp_path / "out", abi="autoware")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_onnx_files_for_the_node_say_what_the_model_says(tmp_path: Path) -> None:
    import onnxruntime

    made = config()
    done = write_autoware(tmp_path, build(made), made, DRIVE, source={"model": "fresh"})
    assert done.logits < 1e-4 and done.codes < 1e-3
    assert {path.name for path in tmp_path.iterdir()} == {
        *(f"{stem}.onnx" for stem in INPUTS),
        PARAMETERS,
        "manifest.json",
    }
    for stem in INPUTS:
        session = onnxruntime.InferenceSession(tmp_path / f"{stem}.onnx", providers=["CPUExecutionProvider"])
        assert [entry.name for entry in session.get_inputs()] == [*INPUTS[stem]]
        assert [entry.name for entry in session.get_outputs()] == [*OUTPUTS[stem]]
    with pytest.raises(SynclError, match="Autoware's node, which syncl does not run"):
        open_model(tmp_path)
