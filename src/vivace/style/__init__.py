"""Pictures in the style of others, textures, and what makes two pictures look alike."""

from vivace.style.gatys import LITE0 as LITE0
from vivace.style.gatys import VGG19 as VGG19
from vivace.style.gatys import Gaze as Gaze
from vivace.style.gatys import See as See
from vivace.style.gatys import gatys as gatys
from vivace.style.gatys import recolored as recolored
from vivace.style.gatys import seeing as seeing
from vivace.style.gram import gram_matrix as gram_matrix
from vivace.style.gram import style_distance as style_distance
