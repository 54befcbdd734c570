"""Models that run without this library: a tracker's step as a program of tensors, in a folder."""
