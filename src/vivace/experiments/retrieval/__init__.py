"""Experiments of the room `retrieval`."""
