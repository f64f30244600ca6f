"""Optimisation: descent and its variants, with torch's manners, and how gradients are computed."""

from vivace.optimization.clipping import clip_norm as clip_norm
from vivace.optimization.clipping import clip_value as clip_value
from vivace.optimization.clipping import normalize_gradient as normalize_gradient
from vivace.optimization.schedules import cosine as cosine
from vivace.optimization.schedules import one_cycle as one_cycle
from vivace.optimization.schedules import scaled_rate as scaled_rate
from vivace.optimization.schedules import step_decay as step_decay
from vivace.optimization.schedules import warm_up as warm_up
