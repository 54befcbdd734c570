"""SynCL's settings, every switch of the paper's ablations among them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from syncl.errors import SynclError
from syncl.training.assignment import CostConfig
from syncl.training.losses import LossConfig
from syncl.training.strategies.syncl.contrastive import ContrastiveConfig

if TYPE_CHECKING:
    from syncl.training.strategies.syncl.strategy import SynCL

Decoder = Literal["cross_only", "standard"]
Range = Literal["persistent", "new_born", "all", "none"]
Filter = Literal["mixture", "fixed_cost", "simota", "atss", "none"]
Dropped = Literal["background", "ignored"]


@dataclass(frozen=True)
class SynclConfig:
    """The defaults are the paper's method; each switch names the table that it re-runs.

    Attributes:
        cost: matching cost of both decoders.
        loss: losses of both decoders.
        decoder: who gets the added matching: the parallel cross-attention decoder, or the standard one, which
            then has no other beside it (table 5).
        objects: which objects the added matching gives to object queries (table 5); `none` leaves that part
            out (table 4a, detection).
        one_to_many: whether an object may have several queries (table 5).
        queries_per_object: K, how many (table 6).
        tracks: whether track queries are supervised in the cross-attention decoder (table 4a, tracking).
        filter: which of the candidates stay (table 4b).
        dropped: what becomes of object queries whose pair the filter takes out: they are background, or carry
            no loss in the cross-attention decoder.
        false_tracks: the same of track queries that never held an object, with which `ClipNoise` disturbs
            training. Many lie on objects that another track holds, which the cross-attention decoder cannot
            see.
        filter_cost: the limit of `fixed_cost`; the paper does not give DETA's.
        cross_weight: weight of the cross-attention decoder's losses.
        contrastive: instance-aware contrastive learning; weight 0 leaves it out (table 4a).
        release_m: see `BaselineConfig`.
    """

    cost: CostConfig = field(default_factory=CostConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    decoder: Decoder = "cross_only"
    objects: Range = "persistent"
    one_to_many: bool = True
    queries_per_object: int = 5
    tracks: bool = True
    filter: Filter = "mixture"
    dropped: Dropped = "background"
    false_tracks: Dropped = "background"
    filter_cost: float = 1.0
    cross_weight: float = 1.0
    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    release_m: float = 0.0

    def check(self) -> None:
        """Refuse combinations that make no sense.

        Raises:
            SynclError: with the reason.
        """
        contrast = self.contrastive.weight > 0
        if self.queries_per_object < 1:
            raise SynclError(f"strategy: queries_per_object={self.queries_per_object} must be at least 1")
        if self.decoder == "standard":
            if self.objects != "new_born":
                raise SynclError(
                    f"strategy: decoder=standard with objects={self.objects}: in the standard decoder "
                    "persistent objects belong to their track queries; choose objects=new_born"
                )
            if contrast:
                raise SynclError(
                    "strategy: decoder=standard has no cross-attention decoder for the contrastive loss; "
                    "set contrastive.weight=0"
                )
            if not self.one_to_many:
                raise SynclError(
                    "strategy: decoder=standard, objects=new_born, one_to_many=false is the baseline; "
                    "choose --strategy baseline"
                )
            if "ignored" in (self.dropped, self.false_tracks):
                raise SynclError(
                    "strategy: decoder=standard has no cross-attention decoder whose queries could carry no "
                    "loss; leave dropped and false_tracks at background"
                )
        elif self.objects == "none" and not self.tracks:
            raise SynclError(
                "strategy: objects=none and tracks=false leave nothing to the cross-attention decoder; "
                "choose --strategy baseline"
            )
        if contrast and self.objects in ("none", "new_born"):
            raise SynclError(
                f"strategy: objects={self.objects} gives no object query the object of a track query, so the "
                "contrastive loss has no pairs; set contrastive.weight=0 or choose persistent or all"
            )
        if (self.objects == "none" or not self.one_to_many) and self.filter != "none":
            what = "objects=none" if self.objects == "none" else "one_to_many=false"
            raise SynclError(
                f"strategy: filter={self.filter} with {what}: there are no one-to-many candidates to "
                "filter; set filter=none"
            )

    def build(self, dim: int) -> "SynCL":
        """Build the strategy for queries of `dim` channels.

        Raises:
            SynclError: if the switches contradict one another.
        """
        from syncl.training.strategies.syncl.strategy import SynCL

        self.check()
        return SynCL(self, dim)
