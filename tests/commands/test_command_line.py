"""The command line as a user meets it: help, errors, exit codes, light imports."""

import re
import subprocess
import sys
import time
import warnings

import pytest

import syncl
from syncl.commands.main import COMMANDS, call_warnings_notes, main


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "syncl", *arguments], capture_output=True, text=True)


def test_help_lists_every_command():
    finished = call("--help")
    assert finished.returncode == 0
    assert all(name in finished.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_every_command_describes_its_options(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: syncl {name}" in text and len(text.splitlines()) > 3


def test_help_takes_less_than_a_second():
    begin = time.process_time()
    children = time.perf_counter()
    finished = call("train", "--help")
    assert finished.returncode == 0
    # Wall time is not to be trusted on a busy machine; what costs time is importing torch, tested below.
    assert time.perf_counter() - children < 20 and time.process_time() - begin < 1


@pytest.mark.parametrize("module", ["syncl", "syncl.commands.main", "syncl.evaluation"])
def test_light_imports_do_not_pull_in_torch(module):
    heavy = ("torch", "cv2", "av", "matplotlib")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout.strip() == "[]", finished.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dance"], "there is no command 'dance'"),
        (["trian"], "there is no command 'trian'; did you mean 'train'?"),
        (["track", "--outptu", "r.json"], "syncl track has no option --outptu; did you mean '--output'?"),
        (["train", "petr_synthetc", "--data", ".", "--output", "out"], "did you mean 'petr_synthetic'?"),
        (["train", "nonsense", "--data", "nowhere", "--output", "out"], "there is no recipe 'nonsense'"),
        (["track", "missing.safetensors", "--data", "nowhere", "--output", "r.json"], "nowhere"),
        (["evaluate", "missing.json", "--data", "nowhere"], "nowhere"),
        (["render", "missing.json", "--data", "nowhere", "--output", "v.mp4"], "nowhere"),
        (["generate", "out", "--keyframes", "0"], "keyframes"),
        (
            ["train", "petr_synthetic", "--data", ".", "--output", "out", "--threads", "0"],
            "--threads 0: at least 1",
        ),
        (
            ["track", "demo", "--data", ".", "--output", "r.json", "--threads", "-2"],
            "--threads -2: at least 1",
        ),
        (["profile", "demo", "--threads", "0"], "--threads 0: at least 1"),
        (
            ["diagnose", "demo", "--data", ".", "--scene", "s", "--output", "out", "--threads", "0"],
            "--threads 0",
        ),
        (["demo", "--scenes", "5", "--output", "out"], "scenes"),
    ],
)
def test_errors_name_the_problem_without_a_traceback(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    # Ahead of it, old matplotlib may complain of new pyparsing.
    assert re.search(f"^error: .*{message}", error, re.MULTILINE)
    assert "Traceback" not in error and not list(tmp_path.iterdir())


def test_options_that_take_a_list_add_up_when_given_twice(monkeypatch):
    given = {}
    monkeypatch.setattr("syncl.runs.train.run.train_recipe", lambda recipe, **options: given.update(options))
    line = "train r --set a=1 b=2 --data d --set=c=3 --output o --init-parts p"
    main(line.split())
    assert given["changes"] == ("a=1", "b=2", "c=3") and given["init_parts"] == ("p",)
    assert (str(given["data"]), str(given["output"])) == ("d", "o")


def test_what_the_package_warns_of_is_a_note_without_code(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", lambda *given: "usual")
    call_warnings_notes()
    where = syncl.__file__
    assert warnings.formatwarning("cameras are few", UserWarning, where, 3) == "note: cameras are few\n"
    assert warnings.formatwarning("old", DeprecationWarning, where, 3) == "usual"
    assert warnings.formatwarning("theirs", UserWarning, pytest.__file__, 3) == "usual"


def says(message: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main([message])
    return capsys.readouterr().err


def test_of_the_processes_of_one_launcher_one_says_what_all_find(monkeypatch, capsys):
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for name, value in {
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
    }.items():
        monkeypatch.setenv(name, value)
    assert "no command 'nonsense'" in says("nonsense", capsys)
    assert says("nonsense", capsys) == ""
    assert "no command 'other'" in says("other", capsys)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert "no command 'nonsense'" in says("nonsense", capsys)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    assert "no command 'nonsense'" in says("nonsense", capsys)
