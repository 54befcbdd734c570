"""The best weights of a run, by a figure of its validations."""

import math
from collections.abc import Mapping
from pathlib import Path

from syncl.training.journal import log_entries

LOWER_IS_BETTER = ("amotp", "ids")


class Best:
    """The best validation so far.

    Args:
        metric: name of the figure; `auto` = the first one, AMOTA of trackers and mAP of detectors.
        log: the run's `log.jsonl`, whose validations count.
    """

    def __init__(self, metric: str, log: Path) -> None:
        self._metric = metric
        self._value = math.nan
        for entry in log_entries(log):
            if entry["group"] == "validation":
                self.improved(entry["values"])

    def improved(self, figures: Mapping[str, float | None]) -> bool:
        """Whether these figures are better than all before; they count from now on."""
        metric = next(iter(figures)) if self._metric == "auto" else self._metric
        value = figures.get(metric)
        if not isinstance(value, int | float) or math.isnan(value):
            return False
        better = value < self._value if metric in LOWER_IS_BETTER else value > self._value
        if better or math.isnan(self._value):
            self._value = value
            return True
        return False
