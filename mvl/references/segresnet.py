"""SegResNet: a residual encoder with group norm and a light decoder, without the variational branch."""

from __future__ import annotations

from monai.networks.nets.segresnet import SegResNet

from mvl.config import SegmenterConfig
from mvl.references.fitted import Fitted


def build(config: SegmenterConfig, features: int) -> Fitted:
    """Four resolutions of 1, 2, 2, 4 blocks, MONAI's defaults. Source: Myronenko 2018, arXiv 1810.11654."""
    net = SegResNet(init_filters=features, in_channels=config.channels, out_channels=config.classes)
    return Fitted(net, config, step=(8, 8, 8), end=net.down_layers[-1])
