"""Neural networks, from the perceptron on."""

from vivace.networks.mlp import MLP as MLP
from vivace.networks.mlp import LayerCost as LayerCost
from vivace.networks.mlp import count_parameters as count_parameters
from vivace.networks.mlp import deltas as deltas
from vivace.networks.mlp import layer_costs as layer_costs
from vivace.networks.perceptron import Perceptron as Perceptron
from vivace.networks.perceptron import mistake_bound as mistake_bound
from vivace.networks.perceptron import perceptron_epoch as perceptron_epoch
from vivace.networks.positional_encoding import LearnedPositions as LearnedPositions
from vivace.networks.positional_encoding import fourier_features as fourier_features
from vivace.networks.positional_encoding import gaussian_features as gaussian_features
from vivace.networks.positional_encoding import positional_encoding as positional_encoding
from vivace.networks.positional_encoding import random_frequencies as random_frequencies
from vivace.networks.positional_encoding import rotary as rotary
from vivace.networks.positional_encoding import shift_matrix as shift_matrix
