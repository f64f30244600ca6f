"""Optimisation: descent and its variants, with torch's manners, and how gradients are computed."""

from vivace.optimization.autodiff import Variable as Variable
from vivace.optimization.autodiff_layers import average_pool2d as average_pool2d
from vivace.optimization.autodiff_layers import conv2d as conv2d
from vivace.optimization.autodiff_layers import max_pool2d as max_pool2d
from vivace.optimization.autodiff_layers import softmax_cross_entropy as softmax_cross_entropy
from vivace.optimization.backpropagation import Net as Net
from vivace.optimization.backpropagation import Trace as Trace
from vivace.optimization.backpropagation import backpropagation_step as backpropagation_step
from vivace.optimization.finite_differences import check_gradient as check_gradient
from vivace.optimization.finite_differences import finite_differences as finite_differences
from vivace.optimization.finite_differences import relative_error as relative_error
from vivace.optimization.gradient_descent import Descent as Descent
from vivace.optimization.gradient_descent import gradient_descent as gradient_descent
from vivace.optimization.stochastic_gradient_descent import Walk as Walk
from vivace.optimization.stochastic_gradient_descent import minibatches as minibatches
from vivace.optimization.stochastic_gradient_descent import stochastic_gradient_descent as stochastic_gradient_descent
