"""Pictures in the style of others, textures, and what makes two pictures look alike."""

from vivace.style.content_loss import content_loss as content_loss
from vivace.style.feature_statistics import feature_statistics as feature_statistics
from vivace.style.feature_statistics import statistics_distance as statistics_distance
from vivace.style.gatys import LITE0 as LITE0
from vivace.style.gatys import VGG19 as VGG19
from vivace.style.gatys import Gaze as Gaze
from vivace.style.gatys import See as See
from vivace.style.gatys import gatys as gatys
from vivace.style.gatys import recolored as recolored
from vivace.style.gatys import seeing as seeing
from vivace.style.gram import gram_matrix as gram_matrix
from vivace.style.gram import style_distance as style_distance
from vivace.style.lpips import LPIPS_LAYERS as LPIPS_LAYERS
from vivace.style.lpips import backbone_distance as backbone_distance
from vivace.style.lpips import lpips as lpips
from vivace.style.lpips import lpips_weights as lpips_weights
from vivace.style.lpips import unit_normalized as unit_normalized
from vivace.style.sliced_wasserstein import sliced_wasserstein as sliced_wasserstein
from vivace.style.sliced_wasserstein import wasserstein_1d as wasserstein_1d
from vivace.style.ssim import ms_ssim as ms_ssim
from vivace.style.ssim import ssim as ssim
from vivace.style.ssim import ssim_map as ssim_map
from vivace.style.ssim import ssim_terms as ssim_terms
