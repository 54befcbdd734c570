"""All published checkpoint formats by name."""

from syncl.checkpoints.ada_track import AdaTrackAdapter
from syncl.checkpoints.adapter import Adapter
from syncl.checkpoints.backbone_file import BackboneAdapter
from syncl.checkpoints.bevformer import BevformerAdapter
from syncl.checkpoints.cc_3dt import Cc3dtAdapter
from syncl.checkpoints.detr3d import Detr3dAdapter
from syncl.checkpoints.dqtrack import DqTrackAdapter
from syncl.checkpoints.mutr3d import Mutr3dAdapter
from syncl.checkpoints.petr import PetrAdapter
from syncl.checkpoints.petrv2 import Petrv2Adapter
from syncl.checkpoints.pf_track import PfTrackAdapter
from syncl.checkpoints.streampetr import StreamPetrAdapter
from syncl.errors import SynclError

_ADAPTERS: tuple[Adapter, ...] = (
    PetrAdapter(),
    Petrv2Adapter(),
    StreamPetrAdapter(),
    Detr3dAdapter(),
    BevformerAdapter(),
    Mutr3dAdapter(),
    PfTrackAdapter(),
    DqTrackAdapter(),
    AdaTrackAdapter(),
    Cc3dtAdapter(),
    BackboneAdapter(),
)

FORMATS: dict[str, Adapter] = {adapter.name: adapter for adapter in _ADAPTERS}


def find_format(name: str) -> Adapter:
    """The adapter of this name.

    Raises:
        SynclError: if there is none, with the names there are.
    """
    if name not in FORMATS:
        raise SynclError(f"there is no checkpoint format {name!r}; formats: {', '.join(FORMATS)}")
    return FORMATS[name]
