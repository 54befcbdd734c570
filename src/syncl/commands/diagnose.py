"""`syncl diagnose`."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncl.runs.diagnose.run import Diagnosed


def diagnose(
    model: Path,
    /,
    *,
    data: Path,
    scene: str,
    output: Path,
    version: str = "v1.0-mini",
    dataset: Path | None = None,
    split: str | None = None,
    checkpoints: tuple[Path, ...] = (),
    frames: int = 12,
    min_score: float = 0.2,
    cost_steps: int = 2,
    device: str = "auto",
    threads: int | None = None,
    overwrite: bool = False,
) -> "Diagnosed":
    """Look into a tracker: self-attention, decoders with and without it, matching costs, SynCL's cost.

    Writes a folder of pictures and figures.json with the numbers in them:

    attention_mass.png: how much of their self-attention object and track queries spend on whom, by layer.
    attention_maps.png: the maps themselves, of the last frame.
    decoders.png: what the decoder with and the one without self-attention see in the last frame.
    costs.png: matching costs of the one-to-many pairs, the fitted mixture, its threshold; over training.
    candidates.png: queries an object has before and after the filter.
    class_gradients.png: how far the class losses of detecting and tracking agree on the features they share,
    over all queries and by what each task calls a query: (+, -) is an object for detecting alone.
    training_cost.png: time and memory of a training clip with and without SynCL.

    Prints the error of each number of the box code (objects matched as in training) against that of its
    class's median, and which have drowned: numbers that vary and are predicted hardly better than that; how
    far off tracks end that were put 0, 1, 2 and 4 m beside their objects (a decoder that believes where its
    queries stand leaves them there, and tracks of what moves are lost); and the class gradients' cosines.

    Args:
        model: a tracker: name of a shipped model (syncl models), model file, or a run's folder.
        data: folder of a nuScenes-format dataset.
        scene: name of the scene.
        output: folder to write.
        version: nuScenes version folder inside data.
        dataset: file of classes, ranges and thresholds of your own (docs/own-data.md); default: dataset.yaml
            beside the tables, where there is one.
        split: which the scene belongs to (default: the version's own validation split).
        checkpoints: for the matching costs over training: run folders, whose checkpoints are taken in order,
            or model files; all for the model's input. Default: the model alone.
        frames: how many of the scene's frames are looked at, from the first on.
        min_score: predictions below it are not drawn.
        cost_steps: training clips timed with each strategy; 0 leaves that out.
        device: cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.
        threads: CPU threads (default: torch's choice).
        overwrite: replace earlier pictures in the folder.

    Returns:
        The numbers in figures.json, and the files that were written.
    """
    import sys

    from syncl.data.nuscenes.index import open_nuscenes
    from syncl.data.nuscenes.splits import own_split
    from syncl.errors import SynclError
    from syncl.files import check_output
    from syncl.models import find_model
    from syncl.runs.diagnose.box_numbers import numbers_table
    from syncl.runs.diagnose.class_gradients import gradients_table
    from syncl.runs.diagnose.place_correction import corrections_table
    from syncl.runs.diagnose.run import Diagnosis, find_checkpoints
    from syncl.runs.threads import use_threads

    use_threads(threads)
    if frames < 2:
        raise SynclError(f"--frames {frames}: at least 2, since a scene's first frame has no tracks")
    if cost_steps < 0:
        raise SynclError(f"--cost-steps {cost_steps}: cannot be negative; 0 leaves the timing out")
    check_output(output, overwrite, "folder")
    index = open_nuscenes(data, version, dataset=dataset)
    index.check_images(index.choose_scenes(split or own_split(version, data), (scene,)))
    others = find_checkpoints(checkpoints)
    diagnosis = Diagnosis.of_model(find_model(model), index, scene, frames, device)
    found = diagnosis.write(output, others, min_score, cost_steps, overwrite)
    lines = [*numbers_table(found.numbers), *corrections_table(found.places)]
    lines += gradients_table(found.gradients)
    lines.append(f"{output}: {', '.join(path.name for path in found.files)}")
    sys.stdout.write("\n".join(lines) + "\n")
    return found
