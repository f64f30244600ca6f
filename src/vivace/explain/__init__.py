"""Seeing inside networks: which pixels, which features."""
