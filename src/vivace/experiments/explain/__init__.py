"""Experiments of the room explain."""
