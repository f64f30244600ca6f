"""Experiments of the room networks."""
