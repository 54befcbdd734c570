"""StreamPETR, its memory of objects and its auxiliary image head."""

from syncl.detectors.streampetr.focal_head import FocalHeadConfig, ImagePredictions
from syncl.detectors.streampetr.object_memory import ObjectMemory
from syncl.detectors.streampetr.streampetr import StreamPetr, StreamPetrConfig

__all__ = ["FocalHeadConfig", "ImagePredictions", "ObjectMemory", "StreamPetr", "StreamPetrConfig"]
