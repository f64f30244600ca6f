"""Optimisation: descent and its variants, with torch's manners, and how gradients are computed."""
