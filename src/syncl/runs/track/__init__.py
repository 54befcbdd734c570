"""Tracking with a model: scenes of a dataset, or a recording."""
