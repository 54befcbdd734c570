"""Play a recording as if its cameras were running now, and track it live.

    python examples/play_recording.py model.safetensors my_rig/
    python examples/play_recording.py model.safetensors my_rig/ --speed 4     # four times as fast

Frames come at the times of the recording. Where the model is slower, the newest frame wins.
"""

import argparse
import time
from pathlib import Path

import syncl
from syncl.trackers.live import LiveTracker


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--speed", type=float, default=1.0, help="of the playback")
    arguments = parser.parse_args()

    tracker = syncl.load(arguments.model, arguments.device)
    recording = tracker.open(arguments.recording)
    first_s = recording.rig.moments[0].timestamp_s

    with LiveTracker(tracker) as live:
        print(f"warm: {live.warm_up(recording.frame(0)) * 1e3:.0f} ms a step")
        started = time.perf_counter()
        # What a camera driver would do: hand over each frame when it is there, and never wait for the model.
        for frame in recording:
            due = (float(frame.timestamp_s[0]) - first_s) / arguments.speed
            time.sleep(max(0.0, due - (time.perf_counter() - started)))
            live.push(frame)
            while (result := live.poll()) is not None:
                print(f"{result.samples[0]}: {result.latency_s * 1e3:5.0f} ms  {result.objects}")
        live.drain()
        print(live.statistics())


if __name__ == "__main__":
    main()
