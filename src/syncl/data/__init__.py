"""Datasets: nuScenes tables, the synthetic world, recordings of any rig."""
