"""nuScenes, read straight from its official tables."""
