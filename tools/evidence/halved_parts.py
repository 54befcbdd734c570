"""A model file whose trained parts that rest are stored in half the bytes.

    python tools/evidence/halved_parts.py MODEL OUTPUT PART...

MODEL is a model file, each PART the name of a module, such as detector.image_encoder. Matrices and kernels of
these are rounded to float16; read again they are float32, so what computes is as it was.
"""

import argparse
from pathlib import Path

import torch

from syncl.checkpoints.model_file import load_model, save_model
from syncl.errors import SynclError


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("parts", nargs="+")
    options = parser.parse_args()
    whole = load_model(options.model)
    weights = whole.tracker.state_dict()
    for part in options.parts:
        names = [name for name in weights if name.startswith(f"{part}.") and weights[name].dim() > 1]
        if not names:
            raise SynclError(f"{options.model}: has no matrix or kernel in {part!r}")
        weights |= {name: weights[name].to(torch.float16) for name in names}
    detector = whole.tracker.detector
    save_model(
        options.output, weights, whole.config, whole.recipe, whole.notes, detector.views, detector.rigs
    )
    print(f"wrote {options.output}: {options.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
