"""Experiments of the room cnn."""
