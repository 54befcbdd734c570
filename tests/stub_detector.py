"""A detector whose scores are the pixels of its images, so that a test says what it sees."""

import torch
from torch import Tensor

from syncl.detectors.base import Detector
from syncl.detectors.interaction import Interaction
from syncl.detectors.passed import DetectorMemory, Features
from syncl.detectors.reference_range import ReferenceRange
from syncl.layers.decoder import STANDARD, Groups
from syncl.structures import CameraRig, Frame, Predictions, Queries, object_queries


class StubDetector(Detector):
    """Scores come from the pixels of the first row, everything else from the queries."""

    classes = ("car", "bus")
    dim = 8
    positions_follow_references = False

    def __init__(self, queries: int = 8) -> None:
        super().__init__()
        self.query_count = queries
        self.point_range = ReferenceRange((-50.0, -50.0, -5.0, 50.0, 50.0, 3.0))
        self.register_buffer("contents", torch.linspace(-1, 1, queries * self.dim).view(queries, self.dim))
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> Features:
        self.pixels = frame.images[:, 0, :, 0].float() / 255
        return Features(frame.rig.image_from_vehicle, frame.camera_valid, frame.image_size, ())

    def initial_queries(self, features: Features) -> Queries:
        contents = self.contents[None]
        return object_queries(contents, contents, 10 * contents[..., :3])

    def decode(
        self,
        queries: Queries,
        features: Features,
        groups: Groups = STANDARD,
        interaction: Interaction | None = None,
    ) -> tuple[Predictions, ...]:
        tracks = queries.count - self.query_count
        scores = torch.cat([self.pixels[:, 0, : self.query_count], self.pixels[:, 1, :tracks]], dim=1)
        logits = torch.logit(scores.clamp(1e-4, 1 - 1e-4))[None, ..., None].expand(-1, -1, -1, 2)
        codes = torch.zeros(1, 1, queries.count, 10)
        codes[..., :3] = queries.references.clamp(-40, 40)
        codes[..., 7], codes[..., 8] = 1, 0.1
        return (
            Predictions(
                logits, codes, queries.embeddings[None], codes[..., :3], queries.valid, self.query_count
            ),
        )

    def track_positions(self, positions: Tensor, references: Tensor) -> Tensor:
        return positions


def stub_frame(time_s: float, births: list[float], tracks: float | Tensor = 0.0, width: int = 64) -> Frame:
    pixels = torch.zeros(1, 1, 3, 1, width)
    pixels[0, 0, 0, 0, : len(births)] = torch.tensor(births)
    pixels[0, 0, 1, 0] = tracks
    return Frame(
        (255 * pixels).to(torch.uint8),
        CameraRig(("C",), torch.eye(3).double()[None, None], torch.eye(4).double()[None, None]),
        torch.ones(1, 1, dtype=torch.bool),
        torch.ones(1, 1, 2, dtype=torch.int64),
        torch.eye(4, dtype=torch.float64)[None],
        torch.tensor([time_s], dtype=torch.float64),
        ("long",),
        (f"{time_s}",),
    )
