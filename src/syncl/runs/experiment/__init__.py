"""Paired trainings: the plan, running it, the summary of its results."""
