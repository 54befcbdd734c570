"""`syncl export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from syncl.deployment.autoware.node_folder import AutowareExport
    from syncl.deployment.writing import Exported


def export(
    model: Path,
    /,
    *,
    output: Path,
    format: Literal["onnx", "torch-export"] = "onnx",
    precision: Literal["float32", "float16"] = "float32",
    opset: int = 18,
    abi: Literal["syncl", "autoware"] = "syncl",
    recording: Path | None = None,
    overwrite: bool = False,
) -> "Exported | AutowareExport":
    """Export a model as a folder that runs without syncl: one step of the tracker as a program of tensors.

    The folder has the program (ONNX of standard operators and fixed shapes), eight golden frames that it has
    been checked by, and a manifest of all that a host must know (docs/deployment.md). `syncl track` and
    `syncl.load` take the folder like a model file, through onnxruntime. Needs the extra `export`. Of greedy,
    CC-3DT and DQTrack the program detects, and of ADA-Track it looks with the tracks; whoever runs it pairs
    detections and tracks, as `syncl track` does.

    Args:
        model: name of a shipped model, a model file or a run's folder. What has no such step is refused,
            saying why.
        output: folder to write.
        format: onnx, or a program of torch.export, which syncl writes and does not run.
        precision: float16 lets the image encoder compute in it; places, times and scores stay float32.
        opset: of ONNX, at least 18.
        abi: names and shapes of the program: syncl's own; or the three ONNX files and the parameter file of
            Autoware's node `autoware_camera_streampetr`, of a StreamPETR that detects, without proposals.
        recording: whose first frames the golden frames are, and whose cameras the program takes; frames of
            the synthetic world with nuScenes' six cameras if there is none.
        overwrite: replace an earlier export in that folder.

    Returns:
        What was written, and how the program agrees with the model.
    """
    from syncl.errors import SynclError
    from syncl.progress import plain_console
    from syncl.runs.export import export_model, export_to_autoware

    console = plain_console()
    if abi == "autoware":
        if format != "onnx" or precision != "float32":
            raise SynclError(
                "--abi autoware: the node builds its engines of float32 ONNX files, and chooses their "
                "precision itself (trt_precision); leave --format and --precision out"
            )
        made = export_to_autoware(model, output, opset=opset, recording=recording, overwrite=overwrite)
        console.print(f"wrote {output}: {sum(made.nodes.values())} nodes, {made.size_bytes / 1e6:.1f} MB")
        console.print(
            f"{made.frames} frames one after another: largest difference of a class logit {made.logits:.1e}, "
            f"of a box code {made.codes:.1e}"
        )
        return made
    done = export_model(
        model,
        output,
        program_format=format,
        precision=precision,
        opset=opset,
        recording=recording,
        overwrite=overwrite,
    )
    console.print(f"wrote {output}: {done.nodes} nodes, {done.size_bytes / 1e6:.1f} MB")
    if done.agreement is not None:
        equal = "equal" if done.agreement.identities_equal else "not all equal"
        console.print(
            f"golden frames ({', '.join(done.events)}): identities {equal}, largest difference of a box's "
            f"number {done.agreement.box_m:.1e}, of a score {done.agreement.score:.1e}"
        )
    return done
