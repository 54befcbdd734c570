"""What a model costs a frame, part by part: time, operations, memory, waits."""
