"""Experiments of the room style."""
