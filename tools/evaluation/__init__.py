"""Evaluation: what a model's loss is, and what it costs to run."""
