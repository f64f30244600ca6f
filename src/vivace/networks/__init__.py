"""Neural networks, from the perceptron on."""

from vivace.networks.mlp import MLP as MLP
from vivace.networks.mlp import LayerCost as LayerCost
from vivace.networks.mlp import count_parameters as count_parameters
from vivace.networks.mlp import deltas as deltas
from vivace.networks.mlp import layer_costs as layer_costs
