"""Synthetic drives through a made-up town, written in the nuScenes schema."""
