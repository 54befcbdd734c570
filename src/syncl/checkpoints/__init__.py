"""Checkpoints: our own format, and one adapter for each published format."""
