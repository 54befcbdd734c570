"""What `syncl diagnose` does: passes over a scene, their numbers, pictures of them.

Attention and predictions are those of tracking; matching is that of training, where tracks hold the objects
that annotations say they hold. Nothing is trained.
"""

from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch import Tensor

from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.detectors.attention_maps import TARGETS
from syncl.errors import SynclError
from syncl.files import atomic_write
from syncl.geometry.poses import move_boxes
from syncl.progress import progress_bar
from syncl.rendering.diagnosis_figures import (
    DecoderView,
    MatchingCosts,
    plot_attention_maps,
    plot_attention_mass,
    plot_candidates,
    plot_class_gradients,
    plot_costs,
    plot_decoders,
    plot_training_cost,
)
from syncl.rendering.figures import save_figure
from syncl.runs.diagnose.box_numbers import BoxNumber
from syncl.runs.diagnose.class_gradients import GROUPS, ClassGradients, class_gradient_pass
from syncl.runs.diagnose.clip_cost import clip_cost
from syncl.runs.diagnose.passes import (
    Frames,
    Subject,
    candidate_counts,
    matching_costs,
    matching_pass,
    tracking_pass,
)
from syncl.runs.diagnose.place_correction import PlaceCorrection, place_corrections
from syncl.runs.track.run import choose_device
from syncl.runs.track.scenes import cameras_seen, image_options
from syncl.runs.train.clips import annotation_options
from syncl.structures import Clip, Predictions
from syncl.training.resuming import checkpoint_folders, checkpoint_step
from syncl.training.strategies import BaselineConfig, StrategyConfig
from syncl.training.strategies.syncl.strategy import SynclConfig

_FILES = (
    "attention_mass",
    "attention_maps",
    "decoders",
    "costs",
    "candidates",
    "class_gradients",
    "training_cost",
)


@dataclass(frozen=True)
class Diagnosed:
    """What looking into a model found.

    Attributes:
        figures: the numbers, as in figures.json.
        numbers: of the box code, of the model or the last checkpoint.
        gradients: of the class losses of detecting and tracking, of the same.
        places: where tracks of the same end that are put beside their objects.
        files: all of the output folder.
    """

    figures: dict[str, object]
    numbers: tuple[BoxNumber, ...]
    gradients: ClassGradients
    places: tuple[PlaceCorrection, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Diagnosis:
    """A model over the first frames of a scene.

    Attributes:
        name: of the model.
        subject: the model.
        frames: with their annotations, on the model's device.
    """

    name: str
    subject: Subject
    frames: Frames

    @classmethod
    def of_model(cls, model: Path, index: NuScenesIndex, scene: str, count: int, device: str) -> "Diagnosis":
        """Load a model and read the frames it will look at.

        Raises:
            SynclError: if the model cannot be used, or the scene is too short.
        """
        chosen = choose_device(device)
        subject = Subject.of_file(model, chosen)
        seen = subject.recipe.model.input
        index = index.with_vehicle_frame(seen.vehicle_frame)
        learned = annotation_options(subject.recipe, subject.tracker.future_frames)
        seen = cameras_seen(seen, subject.tracker.detector, index, [scene])
        stream = SceneStream(index, scene, image_options(seen), learned)
        if len(stream) < count:
            raise SynclError(f"--frames {count}: scene {scene} has only {len(stream)}")
        read = progress_bar(islice(stream.with_annotations(), count), "reading", total=count)
        frames = tuple((frame.to(chosen), annotations.to(chosen)) for frame, annotations in read)
        return cls(model.stem, subject, frames)

    def write(
        self,
        output: Path,
        checkpoints: tuple[tuple[str, Path], ...],
        min_score: float,
        cost_steps: int,
        overwrite: bool,
    ) -> Diagnosed:
        """Write all pictures and figures.json, and return what is in them; see `syncl.commands.diagnose`.

        Raises:
            SynclError: if a checkpoint cannot be used.
        """
        # All are loaded before work starts, so that a wrong one is told at once.
        subjects = {name: self._other(path) for name, path in checkpoints} or {self.name: self.subject}
        paths = {name: output / f"{name}.png" for name in _FILES}
        tracked = tracking_pass(self.subject, self.frames, self.name)
        mass = plot_attention_mass(tracked.mass, tracked.even, TARGETS)
        save_figure(mass, paths["attention_mass"], overwrite)
        maps = plot_attention_maps(tracked.maps, tracked.shown_objects)
        save_figure(maps, paths["attention_maps"], overwrite)
        views = [
            self._view("with self-attention", tracked.standard, min_score),
            self._view("without (cross-only)", tracked.cross, min_score),
        ]
        truth = self._truth()
        save_figure(plot_decoders(views, truth, min_score), paths["decoders"], overwrite)
        figures: dict[str, object] = {
            "model": self.name,
            "scene": self.frames[0][0].scenes[0],
            "frames": len(self.frames),
            "threads": torch.get_num_threads(),
            "attention_targets": TARGETS,
            "attention_of_object_queries": _rounded(tracked.mass[:, 0]),
            "attention_of_track_queries": _rounded(tracked.mass[:, 1]),
            "even_attention": _rounded(tracked.even),
            "predictions": {
                view.title: {"object_queries": len(view.objects), "track_queries": len(view.tracks)}
                for view in views
            },
            "annotated": len(truth),
        }
        matched = {name: matching_pass(subject, self.frames, name) for name, subject in subjects.items()}
        costs = [matching_costs(name, found.pairs) for name, found in matched.items()]
        save_figure(plot_costs(costs), paths["costs"], overwrite)
        figures["matching"] = {item.title: _summary(item) for item in costs}
        last_matched = next(reversed(matched.values()))
        figures["box_code"] = {
            name: {number.name: number.figures for number in found.numbers} for name, found in matched.items()
        }
        before, after = candidate_counts(last_matched.pairs)
        save_figure(plot_candidates(before, after), paths["candidates"], overwrite)
        figures["queries_an_object"] = {
            "before": _rounded(before.mean(axis=1)) if before.size else [],
            "after": _rounded(after.mean(axis=1)) if after.size else [],
        }
        places = {name: place_corrections(subject, self.frames, name) for name, subject in subjects.items()}
        figures["places"] = {name: [asdict(one) for one in found] for name, found in places.items()}
        gradients = {
            name: class_gradient_pass(subject, self.frames, name) for name, subject in subjects.items()
        }
        last_gradients = next(reversed(gradients.values()))
        cosines = plot_class_gradients(last_gradients.cosines, GROUPS)
        save_figure(cosines, paths["class_gradients"], overwrite)
        figures["class_gradients"] = {name: found.figures for name, found in gradients.items()}
        if cost_steps:
            figures["training_cost"] = self._training_cost(paths["training_cost"], cost_steps, overwrite)
        text = orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
        atomic_write(output / "figures.json", text)
        last_places = next(reversed(places.values()))
        files = tuple(sorted(output.iterdir()))
        return Diagnosed(figures, last_matched.numbers, last_gradients, last_places, files)

    def _view(self, title: str, predictions: Predictions, min_score: float) -> DecoderView:
        """The last layer's boxes above a score, of object queries by the detection head if there are two."""
        boxes = self.subject.tracker.detector.boxes(predictions.codes[-1, 0])
        count = predictions.object_count
        detected = predictions.as_detected.logits[-1, 0, :count]
        logits = torch.cat([detected, predictions.logits[-1, 0, count:]])
        seen = logits.sigmoid().amax(-1) >= min_score
        is_track = torch.arange(len(seen), device=seen.device) >= count
        objects, tracks = (self._ahead(boxes[rows]) for rows in (seen & ~is_track, seen & is_track))
        return DecoderView(title, objects, tracks)

    def _truth(self) -> NDArray[np.float64]:
        """[M, 9] annotated boxes of the last frame, x ahead."""
        last = self.frames[-1][1]
        return self._ahead(last.boxes[0, last.valid[0]])

    def _ahead(self, boxes: Tensor) -> NDArray[np.float64]:
        """Boxes [N, 9] of the model's frame with x ahead, where pictures have it; a lidar's frame has y."""
        known = boxes.double().cpu().numpy()
        if self.subject.recipe.model.input.vehicle_frame != "lidar":
            return known
        turned = np.eye(4)
        turned[:2, :2] = [[0, 1], [-1, 0]]
        return move_boxes(turned, known)

    def _other(self, path: Path) -> Subject:
        """A checkpoint that sees what the model sees.

        Raises:
            SynclError: if it expects other images.
        """
        device = next(self.subject.tracker.parameters()).device
        other = Subject.of_file(path, device)
        if other.recipe.model.input != self.subject.recipe.model.input:
            raise SynclError(
                f"{path}: it is a model for other images ({other.recipe.model.input}) than {self.name}"
            )
        return other

    def _training_cost(self, output: Path, steps: int, overwrite: bool) -> dict[str, object]:
        """Time and memory of a clip with and without SynCL, as a picture and as numbers."""
        training = self.subject.recipe.training
        length = min(max(training.data.clip_length, 2), len(self.frames))
        clip = Clip(
            tuple(frame for frame, _ in self.frames[:length]),
            tuple(annotations for _, annotations in self.frames[:length]),
        )
        own = training.strategy
        plain = BaselineConfig()
        if isinstance(own, BaselineConfig | SynclConfig):
            plain = BaselineConfig(own.cost, own.loss, own.release_m, own.two_tasks)
        strategies: dict[str, StrategyConfig] = {
            "baseline": plain,
            "SynCL": own if isinstance(own, SynclConfig) else self.subject.matching,
        }
        unroll = replace(training.unroll, context_frames=0)
        with torch.random.fork_rng():
            costs = clip_cost(self.subject.tracker.undisturbed(), strategies, unroll, clip, steps)
        on_gpu = clip.frames[0].images.device.type == "cuda"
        memory = "peak device memory" if on_gpu else "kept for the backward pass"
        seconds = {name: cost.seconds for name, cost in costs.items()}
        mebibytes = {name: cost.mebibytes for name, cost in costs.items()}
        save_figure(plot_training_cost(seconds, mebibytes, memory), output, overwrite)
        return {"frames": length, "seconds": seconds, "mebibytes": mebibytes, "memory": memory}


def find_checkpoints(paths: tuple[Path, ...]) -> tuple[tuple[str, Path], ...]:
    """Names and model files of run folders' checkpoints, in order, and of model files.

    Raises:
        SynclError: if a folder has no checkpoint, or a file does not exist.
    """
    found: list[tuple[str, Path]] = []
    for path in paths:
        if not path.exists():
            raise SynclError(f"--checkpoints {path}: there is no such run folder or model file")
        if path.is_file():
            found.append((path.stem, path))
            continue
        folders = checkpoint_folders(path)
        if not folders:
            raise SynclError(
                f"--checkpoints {path}: a folder without checkpoints/step_*; name a run's folder"
            )
        for folder in folders:
            step = checkpoint_step(folder)
            run = f"{path.name} " if sum(map(Path.is_dir, paths)) > 1 else ""
            found.append((f"{run}step {step}", folder / "model.safetensors"))
    names = [name for name, _ in found]
    return tuple(
        (name if names.count(name) == 1 else f"{name} ({place + 1})", path)
        for place, (name, path) in enumerate(found)
    )


def _rounded(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.round(np.asarray(values, np.float64), 6)


def _summary(item: MatchingCosts) -> dict[str, object]:
    """A checkpoint's matching in numbers."""
    return {
        "pairs": len(item.costs),
        "kept": int(item.kept.sum()),
        "mean_cost": float(item.costs.mean()),
        "weights": _rounded(item.weights),
        "means": _rounded(item.means),
        "variances": _rounded(item.variances),
        "threshold": float(item.means.min()),
    }
