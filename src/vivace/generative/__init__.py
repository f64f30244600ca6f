"""Generative models, and the projections that they begin with."""

from vivace.generative.pca import PCA as PCA
