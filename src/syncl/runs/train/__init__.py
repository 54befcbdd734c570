"""Training a recipe: its clips, features kept on disk, scores on the way, the run folder."""
