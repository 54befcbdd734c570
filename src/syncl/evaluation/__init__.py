"""nuScenes detection and tracking metrics: official numbers, exactly, with numpy and scipy alone.

    from syncl.evaluation import evaluate_tracking
    metrics = evaluate_tracking(Path("results.json"), Path("nuscenes"), "v1.0-trainval", "val")
    metrics.amota, metrics.summary()

`evaluate_detection` and `evaluate_tracking` take files; `detection_metrics` and `tracking_metrics` take
arrays: `EvaluationBoxes`, and the `GroundTruth` that `read_ground_truth` gives, of some scenes if so wished.
`find_causes` sorts every miss, false box and identity switch by cause.
Importing this package needs neither torch nor the nuScenes devkit.
"""

from syncl.evaluation.arrays import EvaluationBoxes, GroundTruth, Racks, Samples
from syncl.evaluation.cause_table import CauseCounts, CauseTable
from syncl.evaluation.causes import find_causes
from syncl.evaluation.detection import DetectionMetrics, detection_metrics, evaluate_detection
from syncl.evaluation.ground_truth import read_ground_truth
from syncl.evaluation.hota import HotaScores
from syncl.evaluation.result_arrays import Results, read_results
from syncl.evaluation.tracking import TrackingMetrics, evaluate_tracking, tracking_metrics

__all__ = [
    "CauseCounts",
    "CauseTable",
    "DetectionMetrics",
    "EvaluationBoxes",
    "GroundTruth",
    "HotaScores",
    "Racks",
    "Results",
    "Samples",
    "TrackingMetrics",
    "detection_metrics",
    "evaluate_detection",
    "evaluate_tracking",
    "find_causes",
    "read_ground_truth",
    "read_results",
    "tracking_metrics",
]
