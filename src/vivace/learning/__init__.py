"""Core machine learning: models with scikit-learn's manners."""

from vivace.learning.linear_regression import LinearRegression as LinearRegression
from vivace.learning.linear_regression import gradient_descent as gradient_descent
from vivace.learning.linear_regression import mse as mse
from vivace.learning.linear_regression import mse_gradient as mse_gradient
