"""Seeing inside networks: which pixels, which features."""

from vivace.explain.cam import cam as cam
from vivace.explain.cam import unit_heat as unit_heat
from vivace.explain.color_tuning import ColorTuning as ColorTuning
from vivace.explain.color_tuning import color_tuning as color_tuning
from vivace.explain.color_tuning import hue_colors as hue_colors
from vivace.explain.filter_impact import filter_impact as filter_impact
from vivace.explain.filter_impact import filter_scaled as filter_scaled
from vivace.explain.gabor import GaborFit as GaborFit
from vivace.explain.gabor import color_and_shape as color_and_shape
from vivace.explain.gabor import fit_gabor as fit_gabor
from vivace.explain.gabor import gabor as gabor
from vivace.explain.grad_cam import grad_cam as grad_cam
from vivace.explain.grad_cam import map_and_gradient as map_and_gradient
from vivace.explain.image_parameterization import ImageParameters as ImageParameters
from vivace.explain.invariance import invariance as invariance
from vivace.explain.weight_statistics import LayerStatistics as LayerStatistics
from vivace.explain.weight_statistics import connection_pattern as connection_pattern
from vivace.explain.weight_statistics import excess_kurtosis as excess_kurtosis
from vivace.explain.weight_statistics import relative_change as relative_change
from vivace.explain.weight_statistics import spectral_norm as spectral_norm
from vivace.explain.weight_statistics import weight_statistics as weight_statistics
from vivace.explain.weight_statistics import weights_of as weights_of
