"""Experiments of the room learning."""
