"""The families of backbones that people name, each by one or a few of its members.

Tests export each of them with random weights, and the README's table is made from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Member:
    """One network of a family.

    Attributes:
        family: As people call it.
        source: What to give to ``export``.
        small: Whether it is exported in well under a minute.
    """

    family: str
    source: str
    small: bool = False


FAMILIES: Final = (
    Member("VGG16", "timm:vgg16.tv_in1k"),
    Member("VGG19", "timm:vgg19.tv_in1k"),
    Member("Inception v3", "timm:inception_v3.tv_in1k"),
    Member("GoogLeNet", "torchvision:googlenet"),
    Member("ResNet-18", "timm:resnet18.a1_in1k", small=True),
    Member("ResNet-50", "timm:resnet50.a1_in1k"),
    Member("ResNet-101", "timm:resnet101.a1h_in1k"),
    Member("ResNet-152", "timm:resnet152.a1h_in1k"),
    Member("ResNetV2-50", "timm:resnetv2_50.a1h_in1k"),
    Member("Xception", "timm:legacy_xception.tf_in1k"),
    Member("Inception-ResNet v2", "timm:inception_resnet_v2.tf_in1k"),
    Member("MobileNet v1", "timm:mobilenetv1_100.ra4_e3600_r224_in1k", small=True),
    Member("MobileNet v2", "timm:mobilenetv2_100.ra_in1k", small=True),
    Member("MobileNet v3", "timm:mobilenetv3_large_100.ra_in1k"),
    Member("MobileNet v3 small", "timm:mobilenetv3_small_050.lamb_in1k", small=True),
    Member("DenseNet-121", "timm:densenet121.ra_in1k"),
    Member("NASNet-A large", "timm:nasnetalarge.tf_in1k"),
    Member("EfficientNet-B0", "timm:efficientnet_b0.ra_in1k"),
    Member("ConvNeXt atto", "timm:convnext_atto.d2_in1k", small=True),
    Member("ConvNeXt tiny", "timm:convnext_tiny.fb_in1k"),
    Member("ViT-S/16", "timm:vit_small_patch16_224.augreg_in21k_ft_in1k"),
    Member("ViT-B/16", "timm:vit_base_patch16_224.augreg_in21k_ft_in1k"),
    Member("DeiT-Ti/16", "timm:deit_tiny_patch16_224.fb_in1k", small=True),
    Member("DeiT-S/16", "timm:deit_small_patch16_224.fb_in1k"),
    Member("DINOv2 ViT-S/14", "timm:vit_small_patch14_dinov2.lvd142m"),
    Member("DINOv3 ViT-S/16", "timm:vit_small_patch16_dinov3.lvd1689m"),
    Member("CLIP ViT-B/32 image tower", "timm:vit_base_patch32_clip_224.openai"),
    Member("SigLIP ViT-B/16 image tower", "timm:vit_base_patch16_siglip_224.webli"),
)
