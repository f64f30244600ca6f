"""Convolutional networks, with torchvision's parameter names."""
