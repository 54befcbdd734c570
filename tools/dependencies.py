"""Both ends of the declared dependencies: pin the newest that were tested, try the lowest that are declared.

    python tools/dependencies.py pin                       # writes constraints.txt: the whole closure
    python tools/dependencies.py pin --newest              # the same from the newest releases there are
    python tools/dependencies.py try lowest /tmp/lowest    # a new environment of the declared lowest versions
    python tools/dependencies.py try pinned /tmp/pinned    # one of constraints.txt
    python tools/dependencies.py try --pinned torch lowest /tmp/lowest    # but some from constraints.txt
    python tools/dependencies.py try lowest /tmp/lowest -- tests/rendering -x    # what pytest is told

`try` installs into an environment of its own, which may be deleted afterwards, and runs the tests there.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
EXTRAS = ("dev", "docs", "rerun")
HEADER = """\
# The versions that the tests were last run with, of everything that is installed, made by
#     python tools/dependencies.py pin
# with Python {python}. torch=={torch} gives a CPU machine a small build; for GPUs torch pins what it needs.
"""


def declared(extras: tuple[str, ...]) -> list[str]:
    """Requirements of the package and some of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(item for extra in extras for item in optional[extra])]


def lowest(requirements: list[str], pinned: list[str]) -> list[str]:
    """The same at exactly their lowest versions, but some as `constraints.txt` has them."""
    versions = dict(line.split("==") for line in CONSTRAINTS.read_text().split() if "==" in line)
    return [
        f"{name}=={versions[name]}"
        if (name := re.split(r"[^\w-]", requirement)[0]) in pinned
        else re.sub(r">=([\w.]+).*", r"==\1", requirement)
        for requirement in requirements
    ]


def pin(newest: bool) -> None:
    """Write the versions of the whole closure; those that are pinned stay, unless the newest are wanted."""
    kept = [] if newest else ["--constraint", str(CONSTRAINTS)]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    said = subprocess.run(
        [*command, "--report", "-", *kept, *declared(EXTRAS)], stdout=subprocess.PIPE, check=True, text=True
    )
    packages = (entry["metadata"] for entry in json.loads(said.stdout)["install"])
    versions = {
        re.sub(r"[-_.]+", "-", package["name"]).lower(): package["version"].partition("+")[0]
        for package in packages
    }
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    lines = [f"{name}=={versions[name]}\n" for name in sorted(versions)]
    CONSTRAINTS.write_text(HEADER.format(python=python, torch=versions["torch"]) + "".join(lines))
    print(f"wrote {CONSTRAINTS}: {len(lines)} packages")


def attempt(end: str, folder: Path, pinned: list[str], arguments: list[str]) -> int:
    """Install one end into a new environment and run the tests there."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    wanted = declared(("dev",))
    chosen = lowest(wanted, pinned) if end == "lowest" else ["--constraint", str(CONSTRAINTS), *wanted]
    said = subprocess.run(
        [python, "-m", "pip", "install", *chosen], stderr=subprocess.PIPE, check=True, text=True
    )
    if withdrawn := [line for line in said.stderr.splitlines() if "is a yanked version" in line]:
        # As scipy 1.11.0 and tensorboard 2.16.0 were, which brought TensorFlow along.
        print(*withdrawn, "these releases were withdrawn: declare others", sep="\n")
        return 1
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", ROOT], check=True)
    return subprocess.run([python, "-m", "pytest", "-q", *arguments], cwd=ROOT).returncode


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("pin").add_argument("--newest", action="store_true")
    trying = commands.add_parser("try")
    trying.add_argument("end", choices=("lowest", "pinned"))
    trying.add_argument("folder", type=Path)
    trying.add_argument("--pinned", action="append", default=[], metavar="PACKAGE")
    trying.add_argument("pytest", nargs="*")
    options = parser.parse_args()
    if options.command == "pin":
        pin(options.newest)
        return 0
    return attempt(options.end, options.folder, options.pinned, options.pytest)


if __name__ == "__main__":
    raise SystemExit(main())
