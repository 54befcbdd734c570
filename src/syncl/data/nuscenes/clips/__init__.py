"""From the index to clips for training and scenes for tracking."""
