"""Core machine learning: models with scikit-learn's manners."""

from vivace.learning.kmeans import KMeans as KMeans
from vivace.learning.kmeans import assign as assign
from vivace.learning.kmeans import kmeans_plus_plus as kmeans_plus_plus
from vivace.learning.kmeans import lloyd as lloyd
from vivace.learning.kmeans import update as update
from vivace.learning.linear_regression import LinearRegression as LinearRegression
from vivace.learning.linear_regression import gradient_descent as gradient_descent
from vivace.learning.linear_regression import mse as mse
from vivace.learning.linear_regression import mse_gradient as mse_gradient
from vivace.learning.logistic_regression import LogisticRegression as LogisticRegression
from vivace.learning.logistic_regression import cross_entropy as cross_entropy
from vivace.learning.logistic_regression import descend as descend
from vivace.learning.logistic_regression import one_hot as one_hot
from vivace.learning.logistic_regression import probabilities as probabilities
from vivace.learning.matrix_multiplication import blocked as blocked
from vivace.learning.matrix_multiplication import correlation as correlation
from vivace.learning.matrix_multiplication import cosine_similarities as cosine_similarities
from vivace.learning.matrix_multiplication import covariance as covariance
from vivace.learning.matrix_multiplication import gram as gram
from vivace.learning.matrix_multiplication import linear_layer as linear_layer
from vivace.learning.matrix_multiplication import squared_distances as squared_distances
from vivace.learning.matrix_multiplication import triple_loop as triple_loop
