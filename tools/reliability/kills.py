"""Kill every command at random moments, and see what is left and whether it goes on.

    OMP_NUM_THREADS=1 python tools/reliability/kills.py FOLDER [--kills 200] [--seed 0] [--only train track]

After each kill: no traceback, no process left, the output is not there or whole (or still the earlier one);
then the same command, told to go on or to replace, ends well, gives the same output, and leaves nothing
hidden.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import material as m

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LIMIT_S = 600.0
ORPHAN_S = 8.0


def whole(case: m.Case, output: Path) -> str:
    """What is wrong with what is there; empty if nothing is."""
    if not output.exists():
        return ""
    if case.name == "train":
        model, recipe = output / "model.safetensors", output / "recipe.json"
        if model.exists():
            if not recipe.exists():
                return "a model without its recipe"
            from syncl.checkpoints.model_file import read_model_file

            told = json.loads(read_model_file(model)[1]["recipe"])
            if told["training"]["seed"] != json.loads(recipe.read_text())["training"]["seed"]:
                return "an old model beside a new recipe"
        return ""
    if output.suffix == ".json":
        json.loads(output.read_text())
    return ""


def same(case: m.Case, one: Path, other: Path) -> bool:
    if case.name == "train":
        from safetensors.torch import load_file

        first, second = (load_file(run / "model.safetensors") for run in (one, other))
        return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)
    return not case.same or m.digest(one) == m.digest(other)


def again(case: m.Case, output: Path) -> tuple[str, ...]:
    if case.name != "train":
        return case.again
    recipe = output / "recipe.json"
    begun = recipe.exists() and json.loads(recipe.read_text())["training"]["steps"] == m.STEPS
    return ("--resume",) if begun and list((output / "checkpoints").glob("step_*")) else ("--overwrite",)


def one_kill(
    case: m.Case, material: Path, folder: Path, reference: Path, took_s: float, dice: random.Random
) -> list[str]:
    """What was wrong; raises StopIteration where the command was done before."""
    number, moment, earlier = dice.choice(SIGNALS), dice.uniform(0, took_s), dice.random() < 0.5
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    output, said = m.place(case, material, folder), folder / "said.txt"
    options: list[str] = []
    if earlier and case.again:
        if case.name == "train":
            shutil.copytree(material / "detector", output)
        elif reference.is_dir():
            shutil.copytree(reference, output)
        else:
            shutil.copy(reference, output)
        options = ["--overwrite"]
    arguments = case.arguments(output)
    pid = m.run(
        [*arguments[:1], *options, *arguments[1:]] if case.name == "train" else [*arguments, *options], said
    )
    time.sleep(moment)
    if os.waitpid(pid, os.WNOHANG)[0]:
        raise StopIteration
    os.kill(pid, number)
    status = m.wait(pid, LIMIT_S)
    wrong = []
    text = said.read_text(errors="replace")
    if status is None:
        os.kill(pid, signal.SIGKILL)
        wrong.append(f"did not end within {LIMIT_S:.0f} s")
    elif number != signal.SIGKILL and status not in (128 + number, -number, 0):
        wrong.append(f"status {status}")
    if "Traceback" in text:
        wrong.append("a traceback: " + text[-600:])
    end = time.monotonic() + ORPHAN_S
    while (left := m.session(pid)) and time.monotonic() < end:
        time.sleep(0.1)
    if left:
        wrong.append(f"{len(left)} processes left")
        for orphan in left:
            os.kill(orphan, signal.SIGKILL)
    try:
        wrong += [problem for problem in [whole(case, output)] if problem]
    except Exception as error:
        wrong.append(f"half an output: {error!r}")
    behind = list(again(case, output))
    pid = m.run(
        [*arguments[:1], *behind, *arguments[1:]] if case.name == "train" else [*arguments, *behind], said
    )
    if m.wait(pid, LIMIT_S) != 0:
        wrong.append("does not go on: " + said.read_text(errors="replace")[-600:])
    elif not same(case, output, reference):
        wrong.append("another output after going on")
    if hidden := m.leftovers(folder):
        wrong.append(f"left: {hidden}")
    return [
        f"{number.name} at {moment:.2f} of {took_s:.2f} s{' over an earlier one' if options else ''}: {w}"
        for w in wrong
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*")
    given = parser.parse_args()
    m.import_everything()
    material = m.make_material(given.folder.resolve() / "material")
    dice, counts, wrong = random.Random(given.seed), Counter(), []
    scale = given.kills / sum(case.kills for case in m.cases(material))
    for case in m.cases(material):
        if given.only and case.name not in given.only:
            continue
        base = given.folder.resolve() / "reference" / case.name
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(parents=True)
        reference = m.place(case, material, base)
        began = time.monotonic()
        status = m.wait(m.run(case.arguments(reference), base / "said.txt"), LIMIT_S)
        took_s = time.monotonic() - began
        assert status == 0, (base / "said.txt").read_text()
        print(f"{case.name}: {took_s:.1f} s by itself", flush=True)
        tries = 0
        wanted = max(1, round(case.kills * scale))
        while counts[case.name] < wanted and tries < 4 * wanted:
            tries += 1
            try:
                problems = one_kill(case, material, given.folder / "kill", reference, took_s, dice)
            except StopIteration:
                continue
            counts[case.name] += 1
            print(".", end="", flush=True)
            wrong += [f"{case.name}: {problem}" for problem in problems]
            for problem in problems:
                print(f"  WRONG {case.name}: {problem}", flush=True)
        print(f"{case.name}: {counts[case.name]} kills in {time.monotonic() - began:.0f} s", flush=True)
    print(f"{sum(counts.values())} kills of {len(counts)} commands, {len(wrong)} things wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
