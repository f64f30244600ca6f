"""Experiments of the room generative."""
