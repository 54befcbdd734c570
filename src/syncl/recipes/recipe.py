"""What a recipe holds, and its JSON form."""

from dataclasses import dataclass

from syncl.checkpoints.codec import decode_config, encode_config
from syncl.checkpoints.model_file import MODEL_TYPES
from syncl.checkpoints.upgrades import Json
from syncl.data.augmentation import Augmentation
from syncl.trackers.model import ModelConfig
from syncl.training.assignment import CostConfig
from syncl.training.config import DataConfig, OptimiserConfig, TrainingConfig
from syncl.training.denoising import DenoisingConfig
from syncl.training.image_losses import ImageLossConfig
from syncl.training.losses import LossConfig
from syncl.training.proposal_losses import ProposalLossConfig
from syncl.training.reasoning_losses import ReasoningLossConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.syncl.config import SynclConfig
from syncl.training.syncl.contrastive import ContrastiveConfig
from syncl.training.unroll import UnrollConfig


@dataclass(frozen=True)
class PaperResult:
    """What a paper reports for a recipe, on nuScenes' validation split. None = not reported.

    Attributes:
        source: whose number it is.
        amota: percent.
        amotp: metres.
        recall: percent.
        mota: percent.
        ids: identity switches.
        fp: false positives.
        fn: false negatives.
        nds: nuScenes detection score, percent.
        map: detection mAP, percent.
    """

    source: str
    amota: float | None = None
    amotp: float | None = None
    recall: float | None = None
    mota: float | None = None
    ids: int | None = None
    fp: int | None = None
    fn: int | None = None
    nds: float | None = None
    map: float | None = None


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
    """

    name: str
    summary: str
    model: ModelConfig
    training: TrainingConfig
    starts_from: str = ""
    paper: PaperResult | None = None


RECIPE_TYPES: tuple[type, ...] = (
    *MODEL_TYPES,
    PaperResult,
    TrainingConfig,
    DataConfig,
    Augmentation,
    OptimiserConfig,
    BaselineConfig,
    SynclConfig,
    ContrastiveConfig,
    CostConfig,
    LossConfig,
    UnrollConfig,
    ProposalLossConfig,
    ImageLossConfig,
    ReasoningLossConfig,
    DenoisingConfig,
)


def recipe_to_json(recipe: Recipe) -> Json:
    """The resolved recipe as JSON values."""
    return encode_config(recipe)


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
