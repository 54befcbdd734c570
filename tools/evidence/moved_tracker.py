"""A tracker's own parts beside another detector.

    python tools/evidence/moved_tracker.py TRACKER DETECTOR OUTPUT

TRACKER is a model file whose tracker is kept, DETECTOR one whose detector and input are.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from syncl.checkpoints.model_file import load_model, save_model
from syncl.errors import SynclError

_DETECTOR = "detector."


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("tracker", "detector", "output"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    moved, stays = (load_model(path) for path in (options.tracker, options.detector))
    config = replace(stays.config, tracker=moved.config.tracker)
    model = config.build()
    weights = {
        name: tensor
        for source, is_detector in ((moved, False), (stays, True))
        for name, tensor in source.tracker.state_dict().items()
        if name.startswith(_DETECTOR) == is_detector
    }
    # What the tracker had beside its old detector alone, such as how positions are renewed, stays behind.
    left = model.load_state_dict(weights, strict=False)
    if left.missing_keys:
        raise SynclError(
            f"{options.tracker}: has no {', '.join(left.missing_keys[:3])}; the channels differ?"
        )
    save_model(options.output, model.state_dict(), config)
    print(f"wrote {options.output}; left behind: {', '.join(left.unexpected_keys) or 'nothing'}")


if __name__ == "__main__":
    main()
