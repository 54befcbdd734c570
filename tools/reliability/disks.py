"""Run every command on disks that are full, full half-way, limited, read-only, or where a file is in the way.

    OMP_NUM_THREADS=1 python tools/reliability/disks.py FOLDER [--only train track]

Needs root, for mounts. Each try is to end with status 2 and one line that names a path and the reason,
without a traceback; the earlier result is as it was, and nothing hidden is left.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import material as m

CONDITIONS = ("full", "full half-way", "limited", "read-only", "file in the way")
REASONS = {
    "full": ("no space left",),
    "full half-way": ("no space left",),
    "limited": ("file too large",),
    "read-only": ("read-only file system",),
    "file in the way": ("is a file", "not a directory", "file exists"),
}
LIMIT_S = 600.0
SPARE_BYTES = 1 << 20


def size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    # Folders take room, too.
    return sum(max(item.stat().st_size, 4096) for item in path.rglob("*"))


@contextmanager
def disk(folder: Path, capacity: int):
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={capacity}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, room: int) -> None:
    """Leave so many bytes free."""
    free = os.statvfs(folder)
    count = free.f_bavail * free.f_frsize - room
    with (folder / "filler").open("wb") as file:
        file.write(bytes(max(count, 0)))


def attempt(case: m.Case, condition: str, material: Path, reference: Path, base: Path) -> str:
    """What was wrong."""
    taken = size(reference)
    said = base / "said.txt"
    files = [item for item in (reference, *reference.rglob("*")) if item.is_file()]
    largest = max((item.stat().st_size for item in files), default=0)
    with disk(base / "disk", 3 * taken + 4 * SPARE_BYTES + size(material / "world")) as place:
        output = m.place(case, material, place)
        if condition == "file in the way":
            (place / "file").touch()
            output = place / "file" / case.output
            if case.name == "prepare":
                (place / "world" / ".syncl").touch()
                output = place / case.output
        elif case.again and not (reference.is_dir() and condition == "full half-way"):
            # Files that take the places of earlier ones one by one would find room.
            (shutil.copytree if reference.is_dir() else shutil.copy)(reference, output)
        if condition.startswith("full"):
            fill(place, 0 if condition == "full" else max(taken // 2, 4096))
        before = m.digest(output)
        if condition == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)

        def limit() -> None:
            if condition == "limited":
                resource.setrlimit(resource.RLIMIT_FSIZE, (max(largest // 2, 1024),) * 2)

        arguments = case.arguments(output)
        extra = ["--overwrite"] if case.again else []
        pid = m.run([*arguments[:1], *extra, *arguments[1:]], said, limit)
        status = m.wait(pid, LIMIT_S)
        text = said.read_text(errors="replace")
        wrong = []
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        if case.name == "prepare":
            # It does without: a warning, and the tables are read anew every time.
            if status != 0 or "cannot be cached" not in text:
                wrong.append(f"status {status}: {text[-300:]}")
        elif status != 2 or len(errors) != 1:
            wrong.append(f"status {status}: {text[-400:]}")
        elif not any(reason in text.lower() for reason in REASONS[condition]) or str(place) not in text:
            wrong.append(f"path or reason not said: {errors[0]}")
        if "Traceback" in text:
            wrong.append("a traceback: " + text[-600:])
        if case.again and condition != "file in the way" and not kept(case, output, before):
            wrong.append("the earlier result is not as it was")
        if condition != "read-only" and (hidden := m.leftovers(place)):
            wrong.append(f"left: {hidden}")
        return "; ".join(wrong)


def kept(case: m.Case, output: Path, before: str) -> bool:
    """The earlier result is intact; a training or diagnosis that had begun anew may have replaced parts."""
    if m.digest(output) == before:
        return True
    if case.name == "train":
        return not (output / "model.safetensors").exists()  # the run that began has none yet
    return case.name in ("diagnose", "plot", "demo", "track a recording", "experiment") and output.is_dir()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*")
    given = parser.parse_args()
    m.import_everything()
    folder = given.folder.resolve()
    material = m.make_material(folder / "material")
    tries = wrong = 0
    for case in m.cases(material):
        if given.only and case.name not in given.only:
            continue
        base = folder / "reference" / case.name
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(parents=True)
        reference = m.place(case, material, base)
        assert m.wait(m.run(case.arguments(reference), base / "said.txt"), LIMIT_S) == 0, base / "said.txt"
        for condition in CONDITIONS:
            problem = attempt(case, condition, material, reference, folder)
            tries += 1
            wrong += bool(problem)
            print(f"{case.name}, {condition}: {problem or 'as it should'}", flush=True)
    print(f"{tries} tries, {wrong} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
