"""Experiments of the room optimization."""
