"""What is installed, and the pages for people who help."""

import re
import tomllib

import yaml

import syncl

from ..docs.documented import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_info_names_versions_devices_and_extras(capsys) -> None:
    found = syncl.info()
    said = capsys.readouterr().out
    assert found["syncl"].startswith(f"{syncl.__version__} (")
    assert all(text in said for text in found.values())
    assert all(f"{name} " in found["packages"] for name in ("torch", "numpy", "accelerate", "tyro"))
    assert "dev" in found["extras"].split(", ")


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert PROJECT["version"] == syncl.__version__ == citation["version"]
    assert re.search(r"^## (\S+)", changes, re.MULTILINE)[1] == syncl.__version__
    assert citation["license"] == PROJECT["license"]


def test_issue_forms_ask_for_syncl_info() -> None:
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(forms) == 2
    for form in forms:
        (asked,) = [part for part in yaml.safe_load(form.read_text())["body"] if part["id"] == "info"]
        assert "`syncl info`" in asked["attributes"]["label"] and asked["validations"]["required"]


def test_examples_that_contributing_names_are_there_and_tested() -> None:
    named = re.findall(r"`((?:examples|tests|tools|recipes)[\w/.]*)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) >= 6
    assert all((ROOT / name).exists() or (ROOT / "src" / "syncl" / name).exists() for name in named)
