"""Seeing inside networks: which pixels, which features."""

from vivace.explain.cam import cam as cam
from vivace.explain.cam import unit_heat as unit_heat
from vivace.explain.faithfulness import Faithfulness as Faithfulness
from vivace.explain.faithfulness import coarse_map as coarse_map
from vivace.explain.faithfulness import edge_map as edge_map
from vivace.explain.faithfulness import faithfulness as faithfulness
from vivace.explain.feature_inversion import feature_distance as feature_distance
from vivace.explain.feature_inversion import feature_inversion as feature_inversion
from vivace.explain.grad_cam import grad_cam as grad_cam
from vivace.explain.grad_cam import map_and_gradient as map_and_gradient
from vivace.explain.grad_cam_plus_plus import grad_cam_plus_plus as grad_cam_plus_plus
from vivace.explain.guided_backpropagation import guided_backpropagation as guided_backpropagation
from vivace.explain.guided_grad_cam import guided_grad_cam as guided_grad_cam
from vivace.explain.image_parameterization import ImageParameters as ImageParameters
from vivace.explain.insertion_deletion import InsertionDeletion as InsertionDeletion
from vivace.explain.insertion_deletion import insertion_deletion as insertion_deletion
from vivace.explain.insertion_deletion import with_hottest as with_hottest
from vivace.explain.layer_cam import layer_cam as layer_cam
from vivace.explain.randomization_check import randomization_check as randomization_check
from vivace.explain.randomization_check import rank_correlation as rank_correlation
from vivace.explain.score_cam import score_cam as score_cam
