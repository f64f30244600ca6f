"""Seeing inside networks: which pixels, which features."""

from vivace.explain.cam import cam as cam
from vivace.explain.cam import unit_heat as unit_heat
from vivace.explain.cka import cka as cka
from vivace.explain.embedding_map import embedding_map as embedding_map
from vivace.explain.embedding_map import umap_at_hand as umap_at_hand
from vivace.explain.grad_cam import grad_cam as grad_cam
from vivace.explain.grad_cam import map_and_gradient as map_and_gradient
from vivace.explain.image_parameterization import ImageParameters as ImageParameters
from vivace.explain.mahalanobis import Mahalanobis as Mahalanobis
from vivace.explain.nearest_neighbors import nearest_neighbors as nearest_neighbors
from vivace.explain.nearest_neighbors import neighbor_agreement as neighbor_agreement
from vivace.explain.trustworthiness import continuity as continuity
from vivace.explain.trustworthiness import distance_correlation as distance_correlation
from vivace.explain.trustworthiness import trustworthiness as trustworthiness
