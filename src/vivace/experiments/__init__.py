"""Experiments: a method on real input, and what was measured of the claims about it."""
