"""The harnesses kill, and give bad disks to, every command there is."""

from pathlib import Path

from reliability import material
from syncl.commands.main import COMMANDS


def test_every_command_is_killed_and_meets_bad_disks():
    cases = material.cases(Path("material"))
    covered = {case.arguments(Path("output"))[0] for case in cases}
    assert covered | material.WRITE_NOTHING == COMMANDS.keys()
    assert not covered & material.WRITE_NOTHING
    assert all(case.kills > 0 for case in cases) and len({case.name for case in cases}) == len(cases)
