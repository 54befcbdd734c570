"""The summary of an experiment: mean, spread and paired differences, as markdown and a plot."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from syncl.errors import SynclError
from syncl.files import atomic_write
from syncl.rendering.metric_figures import plot_arms
from syncl.runs.experiment.plan import Plan
from syncl.runs.experiment.run_records import Record, read_records, write_table
from syncl.wording import counted

# What is compared: key in metrics.json, heading, decimals, whether more is better.
FIGURES = (
    ("amota", "AMOTA", 3, True),
    ("amotp", "AMOTP", 3, False),
    ("recall", "recall", 3, True),
    ("mota", "MOTA", 3, True),
    ("ids", "IDS", 0, False),
    ("fp", "FP", 0, False),
    ("fn", "FN", 0, False),
)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of n values; the deviation is nan for one value."""

    mean: float
    deviation: float
    count: int

    def text(self, decimals: int, signed: bool = False) -> str:
        """Such as `0.412 ± 0.013`."""
        sign = "+" if signed else ""
        mean = f"{self.mean:{sign}.{decimals}f}"
        return mean if self.count < 2 else f"{mean} ± {self.deviation:.{decimals}f}"


def spread(values: list[float]) -> Spread:
    """Mean and spread of at least one value."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return Spread(float(np.mean(values)), deviation, len(values))


def series_results(plan: Plan, output: Path) -> dict[str, dict[int, Record]]:
    """The results that are there, by arm and seed.

    Raises:
        SynclError: if there is none at all.
    """
    records = read_records(output)
    found = {
        arm.name: {seed: records[arm.name, seed] for seed in arm.seeds if (arm.name, seed) in records}
        for arm in plan.arms
    }
    if not any(found.values()):
        raise SynclError(f"{output}: no results of {plan.name} yet")
    return found


@dataclass(frozen=True)
class ExperimentSummary:
    """What an experiment came to.

    Attributes:
        results: what each run wrote (metrics, cost, recipe, ...), by arm and seed.
        table: of all results.
        report: the comparison of the arms as markdown.
        picture: the same drawn.
    """

    results: dict[str, dict[int, Record]]
    table: Path
    report: Path
    picture: Path


def write_summary(plan: Plan, output: Path) -> ExperimentSummary:
    """Write the table of all results, report.md and report.png.

    Raises:
        SynclError: if there are no results at all.
    """
    results = series_results(plan, output)
    table = write_table(output, read_records(output))
    text = output / "report.md"
    atomic_write(text, markdown(plan, results).encode())
    picture = output / "report.png"
    shown = {
        arm: {
            seed: {key: _value(result, key) for key in ("amota", "recall")} for seed, result in seeds.items()
        }
        for arm, seeds in results.items()
    }
    plot_arms(plan.name, shown, {arm.name: arm.reference for arm in plan.arms}, picture)
    return ExperimentSummary(results, table, text, picture)


def markdown(plan: Plan, results: dict[str, dict[int, Record]]) -> str:
    """The report as markdown."""
    every = [result for seeds in results.values() for result in seeds.values()]
    kind = "the synthetic world" if all(result["synthetic"] for result in every) else "the data given"
    missing = len(plan.runs) - len(every)
    lines = [
        f"# {plan.name}",
        "",
        f"{counted(len(every), 'run')} on {kind}, {plan.split} of {plan.version}; mean ± sample standard "
        f"deviation over seeds {', '.join(map(str, sorted({seed for _, seed in plan.runs})))}."
        + (f" **{counted(missing, 'run')} missing.**" if missing else ""),
        "",
        "| arm | n | "
        + " | ".join(heading for _, heading, _, _ in FIGURES)
        + " | training: CPU s a step | GB | tracking: CPU s a frame | GB |",
        "|---|---|" + "---|" * (len(FIGURES) + 4),
    ]
    for name, seeds in results.items():
        if not seeds:
            continue
        cells = [
            spread([_value(result, key) for result in seeds.values()]).text(decimals)
            for key, _, decimals, _ in FIGURES
        ]
        for command, unit, decimals in (("training", "steps", 2), ("tracking", "frames", 3)):
            parts = [result[command] for result in seeds.values()]
            cost = [part["cpu_s"] / part[unit] for part in parts if not part.get("resumed")]
            cells.append(f"{np.mean(cost):.{decimals}f}" if cost else "(resumed)")
            cells.append(f"{max(part['peak_bytes'] for part in parts) / 1e9:.2f}")
        lines.append(f"| {name} | {len(seeds)} | " + " | ".join(cells) + " |")
    lines += ["", "Paired differences, same seed:", ""]
    lines += [
        "| arm | from | pairs | "
        + " | ".join(heading for _, heading, _, _ in FIGURES)
        + " | AMOTA of each pair |",
        "|---|---|---|" + "---|" * (len(FIGURES) + 1),
    ]
    for arm in plan.arms:
        name, reference = arm.name, arm.reference
        if name == reference:
            continue
        pairs = paired(results, reference, name)
        if not pairs:
            continue
        cells = [
            spread([_value(b, key) - _value(a, key) for a, b in pairs]).text(decimals, signed=True)
            for key, _, decimals, _ in FIGURES
        ]
        each = ", ".join(f"{_value(b, 'amota') - _value(a, 'amota'):+.3f}" for a, b in pairs)
        lines.append(f"| {name} | {reference} | {len(pairs)} | " + " | ".join(cells) + f" | {each} |")
    hardware = sorted({orjson.dumps(result["hardware"]).decode() for result in every})
    commits = sorted({result["commit"] for result in every})
    lines += ["", f"Hardware: {'; '.join(hardware)}. Code: {', '.join(commits)}.", ""]
    return "\n".join(lines)


def paired(results: dict[str, dict[int, Record]], reference: str, arm: str) -> list[tuple[Record, Record]]:
    """Results (reference, arm) of the seeds that both have."""
    seeds = sorted(results[reference].keys() & results[arm].keys())
    return [(results[reference][seed], results[arm][seed]) for seed in seeds]


def _value(result: Record, key: str) -> float:
    value = result["metrics"][key]
    return float("nan") if value is None else float(value)
