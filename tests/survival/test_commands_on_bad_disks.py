"""Every command says in a line, before its work, that its output cannot be written (tools/reliability)."""

import pytest

from full_disks import file_limit
from syncl.commands.main import COMMANDS, main

ARGUMENTS = {
    "demo": ("--output",),
    "generate": ("--overwrite",),
    "train-motion": ("model.safetensors", "detections.json", "--data", "nowhere", "--output"),
    "track": ("model.safetensors", "--data", "nowhere", "--output"),
    "evaluate": ("results.json", "--data", "nowhere", "--output"),
    "render": ("results.json", "--data", "nowhere", "--output"),
    "report": ("run", "--data", "nowhere", "--output"),
    "check-rig": ("rig", "--output"),
    "profile": ("model.safetensors", "--output"),
    "export": ("model.safetensors", "--output"),
    "convert": ("--from", "detr3d", "model.pth"),
    "diagnose": ("model.safetensors", "--data", "nowhere", "--scene", "a", "--output"),
}
NAMES = {"render": "tracks.mp4", "report": "page.html", "check-rig": "rig.png", "profile": "costs.png"}
# They read what says which files they write, or what makes a run, first.
LATER = {"train", "plot", "experiment"}
WITHOUT_OUTPUT = {"prepare", "recipes", "models", "info"}


def test_every_command_is_looked_at():
    assert not COMMANDS.keys() - ARGUMENTS.keys() - LATER - WITHOUT_OUTPUT


@pytest.mark.parametrize("command", ARGUMENTS)
@pytest.mark.parametrize("disk", ["a file in the way", "full"])
def test_an_output_that_cannot_be_written_is_said_before_the_work(
    tmp_path, monkeypatch, capsys, command, disk
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "folder"
    folder.touch() if disk == "a file in the way" else folder.mkdir()
    output = folder / NAMES.get(command, "output")
    with file_limit(10**6 if folder.is_file() else 100), pytest.raises(SystemExit) as stopped:
        main([command, *ARGUMENTS[command], str(output)])
    said = capsys.readouterr().err
    reason = f"{folder} is a file, where a folder would have to be" if folder.is_file() else "file too large"
    assert stopped.value.code == 2 and said.count("\n") == 1 and said.startswith(f"error: {output}: {reason}")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]
