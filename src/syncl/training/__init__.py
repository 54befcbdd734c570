"""Training: assignment, losses, strategies, clip unrolling and the loop. Nothing here is needed to track."""
