"""Seeing inside networks: which pixels, which features."""

from vivace.explain.cam import cam as cam
from vivace.explain.cam import unit_heat as unit_heat
from vivace.explain.feature_inversion import feature_distance as feature_distance
from vivace.explain.feature_inversion import feature_inversion as feature_inversion
from vivace.explain.grad_cam import grad_cam as grad_cam
from vivace.explain.grad_cam import map_and_gradient as map_and_gradient
from vivace.explain.image_parameterization import ImageParameters as ImageParameters
