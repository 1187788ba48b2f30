"""The training set that a collection holds."""

from __future__ import annotations

from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.training.training_set import TrainingSet


def training_set(store: CollectionStore, collection: str) -> TrainingSet:
    """The labelled rows of a collection, at its latest version.

    Raises:
        CollectionNotFound: There is none.
        InvalidArgument: Its labels are lists, which no kind of head learns yet.
    """
    source = store.open(collection)
    spec = source.spec
    if spec.multi_label:
        raise InvalidArgument(
            f"collection {collection!r} is multi-label, and heads learn one label a row; "
            "fit on a collection with single labels"
        )
    matrix = source.matrix(where="label IS NOT NULL")
    return TrainingSet(
        embeddings=matrix.embeddings,
        labels=matrix.labels.to_pylist(),
        space_id=spec.space_id,
        collection=source.name,
        collection_version=matrix.version,
        model=spec.model,
    )
