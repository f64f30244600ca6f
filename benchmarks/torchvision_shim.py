"""Importing this makes torchvision importable for the peers that need it, whatever build of torch it is beside.

torchvision's wheel is built for one build of torch; beside another its Python part, which is all that the peers use,
stops at `operator torchvision::nms does not exist`. Declaring the two operators that it looks for at once is enough.
"""

import sys
from importlib import import_module

import torch

try:
    import_module("torchvision")
except RuntimeError:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    declared = torch.library.Library("torchvision", "DEF")  # kept: its operators live as long as it does
    for operator in ("nms", "qnms"):
        declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import_module("torchvision")
