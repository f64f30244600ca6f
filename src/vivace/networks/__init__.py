"""Neural networks, from the perceptron on."""

from vivace.networks.batch_norm import BatchNorm as BatchNorm
from vivace.networks.batch_norm import batch_norm as batch_norm
from vivace.networks.group_norm import GroupNorm as GroupNorm
from vivace.networks.group_norm import group_norm as group_norm
from vivace.networks.instance_norm import InstanceNorm as InstanceNorm
from vivace.networks.instance_norm import instance_norm as instance_norm
from vivace.networks.layer_norm import LayerNorm as LayerNorm
from vivace.networks.layer_norm import layer_norm as layer_norm
from vivace.networks.mlp import MLP as MLP
from vivace.networks.mlp import LayerCost as LayerCost
from vivace.networks.mlp import count_parameters as count_parameters
from vivace.networks.mlp import deltas as deltas
from vivace.networks.mlp import layer_costs as layer_costs
from vivace.networks.rms_norm import RMSNorm as RMSNorm
from vivace.networks.rms_norm import rms_norm as rms_norm
