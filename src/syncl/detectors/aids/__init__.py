"""Aids of the small recipes, around a detector that knows nothing of them."""

from syncl.detectors.aids.aided import Aided, AidedConfig
from syncl.detectors.aids.proposals import ProposalConfig, Proposals

__all__ = ["Aided", "AidedConfig", "ProposalConfig", "Proposals"]
