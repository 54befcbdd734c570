"""A full-size model by precision: boxes and features against float32's and a golden's, CPU time, memory.

    python benchmarks/precision.py --output precision.json

PF-Track on PETR V2-99 at 320 x 800. The encoder has the weights of the golden `pftrack/vovnet_cpfpn`, whose
features are what the original code made of them. No golden holds a whole full-size model, so all behind it
is fresh, with class heads drawn wider and every threshold 0, as in `benchmarks/exports.py`: all slots are
full of tracks. Each precision has a process of its own and steps the same second frame from the state that
float32 left behind the first. Object and track queries are compared row by row. CPU seconds of one thread;
memory is the most that was resident.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

RECIPE = "pf-track_petr_v99_320x800"
GOLDEN = "pftrack/vovnet_cpfpn"
PRECISIONS = ("float32", "bfloat16")
HERE = Path(__file__).parents[1]


def measure(precision: str, goldens: Path, folder: Path) -> dict[str, float]:
    """One precision, in a process of its own; the first one leaves its state in the folder."""
    import torch

    sys.path.insert(0, str(HERE / "tests" / "parity"))
    from golden import Golden

    from exports import fresh, make_frame
    from syncl.checkpoints.names import published_vovnet_name
    from syncl.checkpoints.state_file import load_state, save_state
    from syncl.recipes import find_recipe
    from syncl.trackers.inference import for_inference

    torch.set_num_threads(1)
    golden = Golden(goldens, GOLDEN, [])
    tracker = fresh(RECIPE)
    encoder = tracker.detector.image_encoder
    weights = golden.state_dict("img_backbone.")
    named = {name: weights[published_vovnet_name(name)] for name in encoder.backbone.state_dict()}
    encoder.backbone.load_state_dict(named)
    encoder.neck.load_state_dict(golden.state_dict("img_neck."))
    tracker = for_inference(tracker, precision)  # type: ignore[arg-type]
    encoder, half = tracker.detector.image_encoder, tracker.precision != torch.float32
    with torch.no_grad(), torch.autocast("cpu", tracker.precision, enabled=half):
        levels = encoder.neck(encoder.backbone(golden.input("img")))
    expected = torch.from_numpy(golden.outputs["fpn0"])
    features = float((levels[0].float() - expected).norm() / expected.norm())

    size = find_recipe(RECIPE).model.input.image_size
    first, second = (make_frame(size, number, torch.device("cpu")) for number in range(2))
    path = folder / "state.safetensors"
    if not path.exists():
        save_state(path, tracker.step(first, tracker.initial_state())[1])
    state, conclude, codes = load_state(path), tracker.conclude, []

    def noted(decoded):  # type: ignore[no-untyped-def]
        codes.append(decoded.standard.codes[-1].float())
        return conclude(decoded)

    tracker.conclude = noted  # type: ignore[method-assign]
    begin = time.process_time()
    tracker.step(second, state)
    seconds = time.process_time() - begin
    torch.save(codes[0], folder / precision)
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"features": features, "tracks": state.count, "cpu_s": seconds, "gigabytes": gigabytes}


def apart(folder: Path, precision: str) -> dict[str, float]:
    """How far centres of all queries are from float32's, metres."""
    import torch

    ours, theirs = (torch.load(folder / name)[0] for name in (precision, PRECISIONS[0]))
    centres = (ours - theirs)[:, :3].norm(dim=1)
    return {
        "queries": len(centres),
        "median_m": float(centres.median()),
        "nine_of_ten_m": float(centres.quantile(0.9)),
        "largest_m": float(centres.max()),
        "largest_number": float((ours - theirs).abs().max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--goldens", type=Path, default=HERE / "tests" / "goldens")
    parser.add_argument("--output", type=Path, help="file for all figures")
    parser.add_argument("--child", nargs=2, metavar=("PRECISION", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child[0], options.goldens, Path(options.child[1]))))
        return
    found = {}
    with TemporaryDirectory() as name:
        for precision in PRECISIONS:
            child = ["--child", precision, name, "--goldens", str(options.goldens)]
            done = subprocess.run([sys.executable, __file__, *child], capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            row = json.loads(done.stdout.splitlines()[-1]) | apart(Path(name), precision)
            found[precision] = row
            print(precision, json.dumps(row), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
