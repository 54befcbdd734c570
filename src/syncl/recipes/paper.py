"""What papers report, as recipes quote it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperResult:
    """What a paper reports for a recipe, on nuScenes' validation split unless the source names another.
    None = not reported.

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
