"""nuScenes metrics."""
