"""Strategies: what of a frame supervises which query. `syncl/` is SynCL, a part of the method a file."""

from syncl.training.strategies.base import Strategy, StrategyConfig
from syncl.training.strategies.baseline import Baseline, BaselineConfig
from syncl.training.strategies.refined_candidates import RefinedCandidatesConfig

__all__ = ["Baseline", "BaselineConfig", "RefinedCandidatesConfig", "Strategy", "StrategyConfig"]
