"""Neural networks, from the perceptron on."""

from vivace.networks.augmentation import add_noise as add_noise
from vivace.networks.augmentation import affine as affine
from vivace.networks.augmentation import random_affine as random_affine
from vivace.networks.augmentation import random_flip as random_flip
from vivace.networks.dropout import Dropout as Dropout
from vivace.networks.dropout import dropout as dropout
from vivace.networks.early_stopping import EarlyStopping as EarlyStopping
from vivace.networks.mlp import ACTIVATIONS as ACTIVATIONS
from vivace.networks.mlp import MLP as MLP
from vivace.networks.mlp import LayerCost as LayerCost
from vivace.networks.mlp import count_parameters as count_parameters
from vivace.networks.mlp import deltas as deltas
from vivace.networks.mlp import layer_costs as layer_costs
