"""Runs as a page to read: metrics side by side, curves, failures with pictures, video and settings."""
