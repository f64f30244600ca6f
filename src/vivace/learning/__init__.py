"""Core machine learning: models with scikit-learn's manners."""

from vivace.learning.diagnostics import calibration_line as calibration_line
from vivace.learning.diagnostics import learning_curve as learning_curve
from vivace.learning.diagnostics import normal_qq as normal_qq
from vivace.learning.diagnostics import residuals as residuals
from vivace.learning.diagnostics import selection as selection
from vivace.learning.feature_matrix import FeatureMatrix as FeatureMatrix
from vivace.learning.linear_regression import LinearRegression as LinearRegression
from vivace.learning.linear_regression import gradient_descent as gradient_descent
from vivace.learning.linear_regression import mse as mse
from vivace.learning.linear_regression import mse_gradient as mse_gradient
from vivace.learning.metrics import accuracy_score as accuracy_score
from vivace.learning.metrics import adjusted_r2_score as adjusted_r2_score
from vivace.learning.metrics import confusion_matrix as confusion_matrix
from vivace.learning.metrics import mean_absolute_error as mean_absolute_error
from vivace.learning.metrics import mean_absolute_percentage_error as mean_absolute_percentage_error
from vivace.learning.metrics import mean_squared_error as mean_squared_error
from vivace.learning.metrics import r2_score as r2_score
from vivace.learning.metrics import root_mean_squared_error as root_mean_squared_error
from vivace.learning.scaling import MinMaxScaler as MinMaxScaler
from vivace.learning.scaling import StandardScaler as StandardScaler
from vivace.learning.splits import ForwardChaining as ForwardChaining
from vivace.learning.splits import GroupKFold as GroupKFold
from vivace.learning.splits import KFold as KFold
from vivace.learning.splits import StratifiedKFold as StratifiedKFold
from vivace.learning.splits import split_sizes as split_sizes
from vivace.learning.splits import three_way_split as three_way_split
