"""What a recipe holds, and its JSON form."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import cast

from syncl.checkpoints.codec import decode_config, encode_config
from syncl.checkpoints.model_file import MODEL_TYPES
from syncl.checkpoints.upgrades import Json
from syncl.data.augmentation import Augmentation
from syncl.errors import SynclError
from syncl.recipes.paper import PaperResult as PaperResult
from syncl.trackers.model import ModelConfig
from syncl.training.assignment import CostConfig
from syncl.training.config import DataConfig, OptimiserConfig, TrainingConfig
from syncl.training.losses import LossConfig
from syncl.training.objectives import OBJECTIVE_TYPES
from syncl.training.strategies import BaselineConfig, RefinedCandidatesConfig, StrategyConfig
from syncl.training.strategies.one_track import TwoTasksConfig
from syncl.training.strategies.refined_candidates import TurnLossConfig
from syncl.training.strategies.syncl.contrastive import ContrastiveConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import UnrollConfig


@dataclass(frozen=True)
class RecipeStrategy:
    """A way to train a recipe's model.

    Attributes:
        config: the training strategy.
        paper: published results of the model trained that way, where there are any.
    """

    config: StrategyConfig
    paper: PaperResult | None = None


@dataclass(frozen=True)
class Recipe:
    """A model and how to train it.

    Attributes:
        name: as on the command line.
        summary: one line.
        model: what is trained; stored in every checkpoint.
        training: the run's settings.
        starts_from: what `--init` should be given, in words; empty = from scratch.
        paper: published results of the same model and training, where there are any.
        strategies: what `--strategy`, or a name that ends with one of these, may put in the place of
            `training.strategy`; that is `baseline` itself, or what somebody put there with `replace`, which
            then is what is trained. Empty where the recipe leaves no choice, or where one has been made. Not
            part of the JSON form.
    """

    name: str
    summary: str
    model: ModelConfig
    training: TrainingConfig
    starts_from: str = ""
    paper: PaperResult | None = None
    strategies: Mapping[str, RecipeStrategy] = field(default_factory=dict, hash=False)

    def trained_with(self, strategy: str) -> "Recipe":
        """The recipe with the choice of its strategy made; its name ends with it, unless it is `baseline`.

        Raises:
            SynclError: if the recipe does not have it, with those it has.
        """
        if strategy not in self.strategies:
            known = ", ".join(self.strategies) or "none to choose from"
            raise SynclError(f"{self.name}: has no strategy {strategy!r}; strategies: {known}")
        chosen = self.strategies[strategy]
        plain = strategy == BASELINE
        return replace(
            self,
            name=self.name if plain else f"{self.name}_{strategy}",
            summary=self.summary if plain else f"{self.summary}, trained with {_TITLES[strategy]}",
            training=replace(self.training, strategy=chosen.config),
            paper=chosen.paper,
            strategies={},
        )

    def with_choice_made(self, strategy: str | None = None) -> "Recipe":
        """The recipe with no choice left: trained with the named one of its strategies, else as it says.

        Raises:
            SynclError: if the recipe leaves a choice and does not have this strategy, with those it has.
        """
        if strategy is None or not self.strategies:
            return replace(self, strategies={})
        return self.trained_with(strategy)


BASELINE = "baseline"
_TITLES = {"syncl": "SynCL"}


def with_syncl(recipe: Recipe, config: SynclConfig, paper: PaperResult | None = None) -> Recipe:
    """The recipe with a choice between its own strategy, called `baseline`, and SynCL."""
    own = RecipeStrategy(recipe.training.strategy, recipe.paper)
    return replace(recipe, strategies={BASELINE: own, "syncl": RecipeStrategy(config, paper)})


def with_two_tasks(recipe: Recipe, tasks: TwoTasksConfig) -> Recipe:
    """A recipe of two class heads, supervised as OneTrack has it, by itself or with SynCL."""
    plain = cast(BaselineConfig, recipe.training.strategy)
    syncl = cast(SynclConfig, recipe.strategies["syncl"].config)
    training = replace(recipe.training, strategy=replace(plain, two_tasks=tasks))
    return with_syncl(replace(recipe, training=training, strategies={}), replace(syncl, two_tasks=tasks))


RECIPE_TYPES: tuple[type, ...] = (
    *MODEL_TYPES,
    PaperResult,
    TrainingConfig,
    DataConfig,
    Augmentation,
    OptimiserConfig,
    BaselineConfig,
    TwoTasksConfig,
    SynclConfig,
    ContrastiveConfig,
    RefinedCandidatesConfig,
    TurnLossConfig,
    CostConfig,
    LossConfig,
    UnrollConfig,
    *OBJECTIVE_TYPES,
)


def own_types(config: object) -> tuple[type, ...]:
    """The classes of your own in a recipe or a part of it, which no file may name unasked."""
    if isinstance(config, (tuple, list)):
        return tuple(dict.fromkeys(cls for item in config for cls in own_types(item)))
    if not is_dataclass(config) or isinstance(config, type):
        return ()
    inner = tuple(getattr(config, item.name) for item in fields(config) if item.name != "strategies")
    own = () if type(config) in (Recipe, *RECIPE_TYPES) else (type(config),)
    return tuple(dict.fromkeys((*own, *own_types(inner))))


def recipe_to_json(recipe: Recipe) -> Json:
    """The recipe as JSON values, without the strategies that were not chosen."""
    written = (item.name for item in fields(recipe) if item.name != "strategies")
    values = {name: encode_config(getattr(recipe, name), f"{recipe.name}.{name}") for name in written}
    return {"type": "Recipe", **values}


def recipe_from_json(value: Json, source: str, types: tuple[type, ...] = ()) -> Recipe:
    """The recipe `recipe_to_json` gave.

    Args:
        value: JSON values.
        source: where they come from, for messages.
        types: configuration classes of your own that may occur inside.

    Raises:
        SynclError: naming what does not fit.
    """
    return decode_config(value, Recipe, (*RECIPE_TYPES, *types), source)
