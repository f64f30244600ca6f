"""Convolutional networks, with torchvision's parameter names."""

from vivace.cnn.efficientnet_lite import EfficientNetLite as EfficientNetLite
from vivace.cnn.efficientnet_lite import class_index as class_index
from vivace.cnn.efficientnet_lite import class_names as class_names
from vivace.cnn.efficientnet_lite import classify as classify
from vivace.cnn.efficientnet_lite import efficientnet_lite0 as efficientnet_lite0
from vivace.cnn.efficientnet_lite import efficientnet_lite1 as efficientnet_lite1
from vivace.cnn.efficientnet_lite import efficientnet_lite2 as efficientnet_lite2
from vivace.cnn.efficientnet_lite import efficientnet_lite3 as efficientnet_lite3
from vivace.cnn.efficientnet_lite import efficientnet_lite4 as efficientnet_lite4
from vivace.cnn.vgg import VGG as VGG
from vivace.cnn.vgg import vgg11 as vgg11
from vivace.cnn.vgg import vgg13 as vgg13
from vivace.cnn.vgg import vgg16 as vgg16
from vivace.cnn.vgg import vgg19 as vgg19
