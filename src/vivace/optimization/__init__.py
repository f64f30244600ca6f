"""Optimisation: descent and its variants, with torch's manners, and how gradients are computed."""

from vivace.optimization.gradient_descent import Descent as Descent
from vivace.optimization.gradient_descent import gradient_descent as gradient_descent
from vivace.optimization.stochastic_gradient_descent import Walk as Walk
from vivace.optimization.stochastic_gradient_descent import minibatches as minibatches
from vivace.optimization.stochastic_gradient_descent import stochastic_gradient_descent as stochastic_gradient_descent
