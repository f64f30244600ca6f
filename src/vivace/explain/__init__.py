"""Seeing inside networks: which pixels, which features."""

from vivace.explain.activation_maximization import Maximized as Maximized
from vivace.explain.activation_maximization import activation_maximization as activation_maximization
from vivace.explain.cam import cam as cam
from vivace.explain.cam import unit_heat as unit_heat
from vivace.explain.deep_dream import deep_dream as deep_dream
from vivace.explain.grad_cam import grad_cam as grad_cam
from vivace.explain.grad_cam import map_and_gradient as map_and_gradient
from vivace.explain.image_parameterization import ImageParameters as ImageParameters
from vivace.explain.image_parameterization import blurred as blurred
from vivace.explain.image_parameterization import frequencies as frequencies
from vivace.explain.image_parameterization import high_frequencies as high_frequencies
from vivace.explain.image_transformations import ImageTransformations as ImageTransformations
from vivace.explain.objectives import Objective as Objective
from vivace.explain.objectives import channel as channel
from vivace.explain.objectives import direction as direction
from vivace.explain.objectives import energy as energy
from vivace.explain.objectives import logit as logit
from vivace.explain.objectives import neuron as neuron
