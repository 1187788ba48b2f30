"""What a client does with collections. `_collections_async` is its twin."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

from numpy.typing import ArrayLike

from trunkline._sync import Calls
from trunkline._wire import collections as wire
from trunkline._wire.changes import Delete, Relabel
from trunkline._wire.embed import FloatName
from trunkline._wire.scan import GetRows, Scan
from trunkline._wire.upsert import Upsert, columns_to_rows, shares
from trunkline.collections import AliasInfo, CollectionInfo, Compacted, Purged, VersionInfo, Written
from trunkline.rows import Label, Row, Rows, Scalar

Progress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done."""


class CollectionMethods:
    """The part of `Client` that is about stored rows.

    A reference is a collection's name, ``photos@7`` (a version) or ``photos@prod`` (an alias or a
    tag). A condition (``where``) is SQL over the columns, e.g. ``"label = ? AND split IS NULL"``, each
    ``?`` of which takes one of ``parameters``.

    Every method raises `NotFound` where there is no such collection, `InvalidRequest` for what can't
    be used, and another `TrunklineError` where the call failed.
    """

    _calls: Calls

    def collections(self, *, timeout: float | None = None) -> list[CollectionInfo]:
        """The server's collections, without their columns."""
        return self._calls.ask(wire.collections(), timeout)

    def collection(self, name: str, *, timeout: float | None = None) -> CollectionInfo:
        """One collection, by a reference.

        Raises:
            NotFound: There is none.
        """
        return self._calls.ask(wire.collection(name), timeout)

    def create_collection(
        self,
        name: str,
        model: str = "",
        *,
        space_id: str | None = None,
        dim: int | None = None,
        dtype: FloatName = "float32",
        multi_label: bool = False,
        decode: str = "",
        metric: str = "cosine",
        timeout: float | None = None,
    ) -> CollectionInfo:
        """Makes an empty collection, in a model's space or in one that is declared.

        Args:
            name: Of the collection.
            model: ``name`` or ``name@version``; empty for the server's default.
            space_id: Instead of a model: a name for the space of vectors from elsewhere. The answer's
                ``space_id`` is ``declared:`` and this name; `upsert` and `search` take either.
            dim: Floats of a vector, with ``space_id``.
            dtype: The floats on disk.
            multi_label: Whether a row has a tuple of labels instead of one.
            decode: ``"exact"`` or ``"fast"``; empty for the server's mode, or for ``"unknown"`` with
                ``space_id``.
            metric: How vectors are compared, for good: ``"cosine"``, ``"dot"`` or ``"euclidean"``.
            timeout: Seconds for the request, instead of the client's.

        Raises:
            FailedPrecondition: There is another one of this name, or an equal one that has rows.
        """
        question = wire.create(name, model, space_id, dim, dtype, multi_label, decode, metric)
        return self._calls.ask(question, timeout)

    def drop_collection(self, name: str, *, timeout: float | None = None) -> None:
        """Deletes a collection with all of its versions.

        Raises:
            FailedPrecondition: An alias stands for it.
        """
        self._calls.ask(wire.drop(name), timeout)

    def upsert(
        self,
        collection: str,
        ids: Iterable[str],
        vectors: ArrayLike,
        *,
        space_id: str,
        labels: Iterable[Label] | None = None,
        splits: Iterable[str | None] | None = None,
        sources: Iterable[str] | None = None,
        metadata: Iterable[Mapping[str, Scalar]] | None = None,
        decode: str | None = None,
        model: str = "",
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> int:
        """Stores vectors by id, replacing the rows of these ids; gives the collection's version.

        Sent in requests that the server takes, one after the other, each of which is one commit and one
        version. After a failure those before it are stored, and the call may be repeated.

        Args:
            collection: An existing one.
            ids: One for each vector; where one comes twice, the last stays.
            vectors: (N, dim) finite numbers.
            space_id: The space that they lie in, of a declared one its name; another than the collection's is
                refused.
            labels: One for each; a tuple of texts where the collection is multi-label; None for unlabelled.
            splits: ``train``, ``test`` and the like, or None.
            sources: Where the images came from.
            metadata: Your own columns; new ones are added to the collection.
            decode: How the images were decoded: ``"exact"``, ``"fast"`` or ``"unknown"``. None: as the
                collection's own were, which nothing checks.
            model: If given, refused unless this model makes vectors of ``space_id``.
            progress: Called after each request with ``"storing"`` and the share of the rows that is stored.
            timeout: Seconds for one request, instead of the client's.

        Raises:
            SpaceMismatch: The collection is of another space; names both.
            FailedPrecondition: The collection is of another decode mode; names both.
            InvalidRequest: A row that can't be stored; names it.
        """
        rows = columns_to_rows(ids, vectors, labels, splits, sources, metadata)
        told = shares(progress, len(rows))
        job = Upsert(collection, rows, space_id, decode or "", model, told)
        return self._calls.gather(job, timeout)

    def upsert_rows(
        self,
        collection: str,
        rows: Iterable[Row],
        *,
        space_id: str,
        decode: str | None = None,
        model: str = "",
        timeout: float | None = None,
    ) -> int:
        """As `upsert`, of whole rows, error rows among them; `Rows.rows` gives such.

        Args:
            collection: An existing one.
            rows: Read as they are needed.
            space_id: The space of their embeddings.
            decode: Of the rows that don't say it themselves; None for the collection's own.
            model: As in `upsert`.
            timeout: Seconds for one request, instead of the client's.
        """
        return self._calls.gather(Upsert(collection, rows, space_id, decode or "", model), timeout)

    def rows(
        self,
        collection: str,
        ids: str | Iterable[str],
        *,
        vectors: bool = True,
        dtype: FloatName = "float32",
        timeout: float | None = None,
    ) -> Rows:
        """The rows of these ids, in this order, all of one version.

        Args:
            collection: A reference.
            ids: The keys.
            vectors: Whether to bring the vectors.
            dtype: Their floats; ``"float16"`` for half the bytes on the wire.
            timeout: Seconds for one request, instead of the client's.

        Raises:
            NotFound: Naming ids that have no row.
        """
        return self._calls.gather(GetRows(collection, ids, vectors, dtype), timeout)

    def scan(
        self,
        collection: str,
        columns: Iterable[str] | None = None,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        *,
        vectors: bool | None = None,
        dtype: FloatName = "float32",
        batch_size: int | None = None,
        timeout: float | None = None,
    ) -> Generator[Rows, None, None]:
        """All rows, or those of a condition, batch by batch, all of the version of the first batch.

        A scan that breaks off after its first batch raises: its batches were used already. What it
        raises names the version, which can be scanned again. There is at least one batch, maybe empty.

        Args:
            collection: A reference.
            columns: To be filled in beside the ids; None for all.
            where: A condition; None for all rows.
            parameters: Of the condition.
            vectors: Whether to bring the vectors; None: where ``columns`` is None or names ``embedding``.
            dtype: Their floats; ``"float16"`` for half the bytes on the wire.
            batch_size: The most rows of a batch; None for some megabytes. Large rows come in smaller ones.
            timeout: Seconds for the whole scan; None for as long as it takes.
        """
        stream = Scan(collection, columns, where, parameters, vectors, dtype, batch_size)
        return self._calls.stream(stream, timeout)

    def relabel(
        self,
        collection: str,
        labels: Mapping[str, Label | Scalar] | None = None,
        *,
        label: Label | Scalar = None,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        column: str = "label",
        timeout: float | None = None,
    ) -> Written:
        """Sets one column: new values by id, or one value for all rows of a condition.

        Args:
            collection: Its name.
            labels: New values by id; None for unlabelled. Ids that have no row are passed over.
            label: Instead, the new value of all rows of ``where``; None for unlabelled.
            where: A condition.
            parameters: Of the condition.
            column: ``label``, ``split``, or a column of your own.
            timeout: Seconds for one request, instead of the client's.
        """
        if wire.check_change(labels, label, where, parameters) is None:
            return self._calls.ask(
                wire.relabel_where(collection, label, where or "", parameters, column), timeout
            )
        return self._calls.gather(Relabel(collection, labels or {}, column), timeout)

    def delete(
        self,
        collection: str,
        ids: str | Iterable[str] | None = None,
        *,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        timeout: float | None = None,
    ) -> Written:
        """Deletes rows by id, or those of a condition; older versions keep them until `compact` or `purge`."""
        if wire.check_selection(ids, where, parameters) is None:
            return self._calls.ask(wire.delete_where(collection, where or "", parameters), timeout)
        return self._calls.gather(Delete(collection, ids or ()), timeout)

    def purge(
        self,
        collection: str,
        ids: str | Iterable[str] | None = None,
        *,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        exclusive: bool = False,
        timeout: float | None = None,
    ) -> Purged:
        """Deletes rows, and every older version, so that no file of the collection holds them any more.

        It rewrites the collection's files, which takes long where it is large: see ``timeout``.

        Args:
            collection: Its name.
            ids: Of the rows.
            where: Instead, a condition.
            parameters: Of the condition.
            exclusive: Promises that no one else is writing: then files of writers that were killed,
                which may hold the rows, are removed as well. Where someone is, their rows are lost.
            timeout: Seconds for the request, instead of the client's.

        Raises:
            FailedPrecondition: A tag or an alias pins an older version; names it.
        """
        return self._calls.ask(wire.purge(collection, ids, where, parameters, exclusive), timeout)

    def compact(
        self,
        collection: str,
        *,
        keep_seconds: float | None = None,
        keep_all: bool = False,
        timeout: float | None = None,
    ) -> Compacted:
        """Rewrites small files into large ones, and removes old versions that no tag and no alias names.

        Args:
            collection: Its name.
            keep_seconds: Versions younger than this stay; None for 7 days.
            keep_all: Instead, every version stays, and nothing is freed.
            timeout: Seconds for the request, instead of the client's.
        """
        return self._calls.ask(wire.compact(collection, keep_seconds, keep_all), timeout)

    def versions(self, collection: str, *, timeout: float | None = None) -> list[VersionInfo]:
        """The versions of a collection, newest first."""
        return self._calls.ask(wire.versions(collection), timeout)

    def tag(
        self, collection: str, tag: str, version: int | None = None, *, timeout: float | None = None
    ) -> int:
        """Names a version (None: the latest), or moves the name there; gives the version."""
        return self._calls.ask(wire.tag(collection, tag, version), timeout)

    def untag(self, collection: str, tag: str, *, timeout: float | None = None) -> None:
        """Takes a name from its version."""
        self._calls.ask(wire.untag(collection, tag), timeout)

    def restore(self, collection: str, version: int, *, timeout: float | None = None) -> int:
        """Makes an old version's rows the latest, as a new version; gives its number."""
        return self._calls.ask(wire.restore(collection, version), timeout)

    def aliases(self, *, timeout: float | None = None) -> list[AliasInfo]:
        """All aliases, by name."""
        return self._calls.ask(wire.aliases(), timeout)

    def set_alias(
        self, alias: str, collection: str, version: int | None = None, *, timeout: float | None = None
    ) -> AliasInfo:
        """Makes or moves an alias, ``photos@prod``: readers see the old target or the new one."""
        return self._calls.ask(wire.set_alias(alias, collection, version), timeout)

    def delete_alias(self, alias: str, *, timeout: float | None = None) -> None:
        """Deletes an alias; the collection stays."""
        self._calls.ask(wire.delete_alias(alias), timeout)
