"""Camera images between key frames, and which of them a frame is looked at together with."""
