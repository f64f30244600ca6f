"""Core machine learning: models with scikit-learn's manners."""

from vivace.learning.lasso import Lasso as Lasso
from vivace.learning.lasso import lasso_path as lasso_path
from vivace.learning.linear_regression import LinearRegression as LinearRegression
from vivace.learning.linear_regression import gradient_descent as gradient_descent
from vivace.learning.linear_regression import mse as mse
from vivace.learning.linear_regression import mse_gradient as mse_gradient
from vivace.learning.polynomial import PolynomialFeatures as PolynomialFeatures
from vivace.learning.ridge import Ridge as Ridge
from vivace.learning.ridge import ridge_path as ridge_path
