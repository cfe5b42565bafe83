"""Minimal parameter groups, their saliency, second-order repair, and cutting them out of a live model."""
