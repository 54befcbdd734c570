"""No two modules or folders of one name with other meanings."""

from collections import defaultdict
from pathlib import Path

from syncl.commands.main import COMMANDS

ROOT = Path(__file__).parents[1]
# Each means the same thing wherever it stands.
ROLES = {
    "base": "the contract that everything in its folder fulfils",
    "clips": "training clips, read and chosen",
    "conftest": "pytest's name",
    "pairing": "which detection is which track, decided on the host",
    "recording": "a recording of a rig, and the folder about them",
    "run": "what the command of the folder's name does, from top to bottom",
    "synthetic": "the synthetic world, and the recipes for it",
    "tracker": "a method's tracker, top to bottom",
}
PARTS = {
    "association": "who belongs to whom by affinity: of a method, and the loss of ADA-Track's",
    "proposals": "the auxiliary image head, and its losses",
    "reasoning": "PF-Track's reasoning, and its losses",
}
# A method has its name in every room: backbone, detector, tracker, recipes, published weights, strategy.
METHODS = {
    *("ada_track", "bevdepth", "bevformer", "cc_3dt", "convnext", "detr3d", "dort", "dqtrack", "mutr3d"),
    *("one_stage", "one_track", "petr", "petrv2", "pf_track", "star_track", "streampetr"),
    "syncl",
}


def doubled() -> dict[str, list[str]]:
    places = defaultdict(list)
    for tree in ("src", "tests", "tools", "examples"):
        for path in sorted((ROOT / tree).rglob("*.py")):
            package = path.name == "__init__.py" and tree == "src"
            if path.stem != "__init__" or package:
                places[path.parent.name if package else path.stem].append(str(path.relative_to(ROOT)))
    return {name: paths for name, paths in places.items() if len(paths) > 1}


def test_no_two_modules_of_one_name_mean_different_things():
    known = {*ROLES, *PARTS, *METHODS, *(name.replace("-", "_") for name in COMMANDS)}
    strangers = {name: paths for name, paths in doubled().items() if name not in known}
    assert not strangers, "rename one, or say in this test why both mean the same"


def test_no_exception_outlives_its_doubling():
    assert {*ROLES, *PARTS, *METHODS} <= set(doubled())
