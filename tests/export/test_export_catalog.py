"""The list of sources: complete, filtered, without a network."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the export extra")

import timm

from trunkline_export import listed


@pytest.mark.usefixtures("no_network")
def test_every_pretrained_network_is_listed() -> None:
    sources = [entry.source for entry in listed()]
    assert sources == sorted(set(sources))
    assert {f"timm:{name}" for name in timm.list_pretrained()} < set(sources)
    assert "torchvision:googlenet@IMAGENET1K_V1" in sources


def test_a_word_matches_anywhere_and_a_pattern_the_whole_name() -> None:
    assert {"timm:resnet18.a1_in1k", "torchvision:resnet18@IMAGENET1K_V1"} <= {
        e.source for e in listed("resnet18")
    }
    assert {e.source for e in listed("deit_tiny_patch16*")} == {"timm:deit_tiny_patch16_224.fb_in1k"}
    assert {e.source.partition(":")[0] for e in listed("torchvision:*")} == {"torchvision"}
    assert listed("no-such-network") == []


def test_sizes_and_licences_of_a_short_list() -> None:
    (entry,) = listed("timm:deit_tiny_patch16_224.*")
    assert (entry.height, entry.width, entry.license) == (224, 224, "apache-2.0")
    network = timm.create_model("deit_tiny_patch16_224", num_classes=0)
    assert entry.parameters == sum(parameter.numel() for parameter in network.parameters())
