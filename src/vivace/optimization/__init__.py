"""Optimisation: descent and its variants, with torch's manners, and how gradients are computed."""

from vivace.optimization.adagrad import Adagrad as Adagrad
from vivace.optimization.adam import Adam as Adam
from vivace.optimization.adamw import AdamW as AdamW
from vivace.optimization.momentum import SGD as SGD
from vivace.optimization.rmsprop import RMSprop as RMSprop
