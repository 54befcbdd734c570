"""Recordings of any rig: a folder with images for each camera and one `rig.yaml`; see docs/recordings.md."""

from syncl.data.lenses import Lens
from syncl.data.recording.recording import Recording, open_recording
from syncl.data.recording.recording_writer import write_recording
from syncl.data.recording.rig_contents import Moment, Rig, RigCamera
from syncl.data.recording.rig_file import open_rig

__all__ = [
    "Lens",
    "Moment",
    "Recording",
    "Rig",
    "RigCamera",
    "open_recording",
    "open_rig",
    "write_recording",
]
