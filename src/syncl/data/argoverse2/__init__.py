"""Argoverse 2's sensor dataset, read from and written in its own layout; see docs/argoverse2.md."""
