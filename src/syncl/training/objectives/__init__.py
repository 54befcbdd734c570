"""What is learned besides assignments: each objective turns a decoded frame and its outcome into losses.

Adding one: a file here with a frozen configuration that has `build`, a line in `OBJECTIVE_TYPES`, and its
configuration in a recipe's `training.unroll.objectives`.
"""

from syncl.training.objectives.association import AssociationLossConfig
from syncl.training.objectives.base import Objective, ObjectiveConfig
from syncl.training.objectives.centres import CentreLossConfig
from syncl.training.objectives.denoising import DenoisingConfig
from syncl.training.objectives.depths import DepthLossConfig
from syncl.training.objectives.dual_queries import DualQueryLossConfig
from syncl.training.objectives.image import ImageLossConfig
from syncl.training.objectives.object_copies import ObjectCopiesConfig
from syncl.training.objectives.proposals import ProposalLossConfig
from syncl.training.objectives.reasoning import ReasoningLossConfig
from syncl.training.objectives.similarity import SimilarityLossConfig

# Every configuration of an objective that a file may name.
OBJECTIVE_TYPES: tuple[type, ...] = (
    AssociationLossConfig,
    CentreLossConfig,
    DenoisingConfig,
    DepthLossConfig,
    DualQueryLossConfig,
    ImageLossConfig,
    ObjectCopiesConfig,
    ProposalLossConfig,
    ReasoningLossConfig,
    SimilarityLossConfig,
)

__all__ = [
    "OBJECTIVE_TYPES",
    "AssociationLossConfig",
    "CentreLossConfig",
    "DenoisingConfig",
    "DepthLossConfig",
    "DualQueryLossConfig",
    "ImageLossConfig",
    "ObjectCopiesConfig",
    "Objective",
    "ObjectiveConfig",
    "ProposalLossConfig",
    "ReasoningLossConfig",
    "SimilarityLossConfig",
]
