"""Image backbones and feature pyramids: images in, feature maps out. They know nothing of detectors."""

from syncl.backbones.contract import Backbone, Neck, NormPolicy
from syncl.backbones.convnext import ConvNeXt, ConvNeXtConfig
from syncl.backbones.fpn import CpFpn, CpFpnConfig, Fpn, FpnConfig
from syncl.backbones.resnet import ResNet, ResNetConfig
from syncl.backbones.vovnet import VoVNet, VoVNetConfig

BackboneConfig = ConvNeXtConfig | ResNetConfig | VoVNetConfig
NeckConfig = FpnConfig | CpFpnConfig

__all__ = [
    "Backbone",
    "BackboneConfig",
    "ConvNeXt",
    "ConvNeXtConfig",
    "CpFpn",
    "CpFpnConfig",
    "Fpn",
    "FpnConfig",
    "Neck",
    "NeckConfig",
    "NormPolicy",
    "ResNet",
    "ResNetConfig",
    "VoVNet",
    "VoVNetConfig",
]
