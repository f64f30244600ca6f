"""Generative models, and the projections that they begin with."""
