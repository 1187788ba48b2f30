"""Spaces that are named by hand, as callers name them."""

from __future__ import annotations

from trunkline_service.collections.spec import CollectionSpec, declared_space


def meant_space(spec: CollectionSpec, said: str) -> str:
    """The space id that a caller means who speaks of a collection: of a declared space the bare name will do.

    Args:
        spec: The collection's.
        said: The caller's word; what is no name of the collection's space is given back as it is.
    """
    if spec.declared and said.strip() and declared_space(said) == spec.space_id:
        return spec.space_id
    return said
