"""Seeing inside networks: which pixels, which features."""

from vivace.explain.cam import cam as cam
from vivace.explain.cam import unit_heat as unit_heat
from vivace.explain.embeddings import embedded as embedded
from vivace.explain.embeddings import embedding as embedding
from vivace.explain.embeddings import embeddings as embeddings
from vivace.explain.embeddings import last_linear as last_linear
from vivace.explain.embeddings import pooled as pooled
from vivace.explain.grad_cam import grad_cam as grad_cam
from vivace.explain.grad_cam import map_and_gradient as map_and_gradient
from vivace.explain.image_parameterization import ImageParameters as ImageParameters
from vivace.explain.zero_shot import ESZSL as ESZSL
from vivace.explain.zero_shot import DirectAttributePrediction as DirectAttributePrediction
