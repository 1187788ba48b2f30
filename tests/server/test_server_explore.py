"""What a collection holds, over a socket and in this process: the same answers, and the same errors."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest

import trunkline
from trunkline_service.collections.store import CollectionStore
from trunkline_service.server.app import Server
from trunkline_service.settings import Settings
from trunkline_service.workspace import exploring
from trunkline_service.workspace.exploring import Exploring

ROWS = 2300


@pytest.fixture(scope="module")
def server(tmp_path_factory, publish_tiny):
    root = tmp_path_factory.mktemp("explore")
    publish_tiny(root / "models")
    folders = {"models": str(root / "models"), "data": str(root / "data")}
    built = Server(Settings(**folders, default_model="tiny", listen="127.0.0.1:0", threads=2, drain_s=10))
    built.start()
    with trunkline.Client(str(built.address)) as client:
        fill(client)
    yield built
    built.stop()


def fill(client):
    """``things``: rows of three clouds, every tenth of the first hundred twice; two versions. ``tags``: lists."""
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(ROWS, 8)).astype(np.float32)
    vectors += 4 * np.eye(8, dtype=np.float32)[np.arange(ROWS) % 3]
    vectors[-10:] = vectors[:100:10] * 2
    client.create_collection("things", space_id="mine", dim=8)
    client.upsert(
        "things",
        [f"r{at}" for at in range(ROWS)],
        vectors,
        space_id="declared:mine",
        labels=[None if at % 5 == 0 else f"kind {at % 3}" for at in range(ROWS)],
        splits=["train" if at % 2 else None for at in range(ROWS)],
        sources=[f"/images/{at}.png" for at in range(ROWS)],
        decode="unknown",
    )
    client.delete("things", ["r1"])
    client.create_collection("tags", space_id="mine", dim=2, multi_label=True)
    client.upsert(
        "tags",
        ["a", "b", "c"],
        np.ones((3, 2)),
        space_id="declared:mine",
        labels=[("x", "y"), (), None],
        decode="unknown",
    )
    client.create_collection("empty", space_id="mine", dim=2)


@pytest.fixture(params=["remote", "local"])
def client(request, server):
    if request.param == "remote":
        opened = trunkline.Client(str(server.address), retries=0)
    else:
        opened = trunkline.open(models=server.settings.models, data=server.settings.data, threads=2)
    with opened as client:
        yield client


@pytest.fixture
def explore(server):
    return Exploring(CollectionStore(server.settings.data))


def rows_of(seen):
    return [dataclasses.astuple(row) for row in seen]


def test_duplicates_come_whole(client, explore):
    told = set()
    found = client.duplicates("things", 0.999, progress=lambda stage, _: told.add(stage))
    here = explore.duplicates("things", 0.999)
    assert {"reading", "comparing"} <= told
    assert (found.collection, found.version, found.rows) == ("things", here.version, ROWS - 1)
    assert (found.space_id, found.metric) == ("declared:mine", "cosine")
    assert found.threshold == pytest.approx(0.999)
    assert (found.exact, found.recall, found.pair_count) == (True, None, here.pair_count)
    assert [dataclasses.astuple(pair) for pair in found.pairs] == [
        dataclasses.astuple(pair) for pair in here.pairs
    ]
    assert len(found.groups) == len(here.groups) >= 10
    for ours, theirs in zip(found.groups, here.groups, strict=True):
        assert rows_of(copy.row for copy in ours.rows) == rows_of(copy.row for copy in theirs.copies)
        assert [(copy.keep, copy.like, copy.score) for copy in ours.rows] == [
            (copy.keep, copy.like, copy.score) for copy in theirs.copies
        ]
        assert (ours.labels_differ, ours.splits_differ) == (theirs.labels_differ, theirs.splits_differ)
    assert {"r2290", "r0"} <= {copy.row.id for group in found.groups for copy in group.rows}
    assert len(found.ids_to_delete) == len(set(found.ids_to_delete)) >= 10


def test_an_older_version_and_a_condition(client):
    assert client.duplicates("things@2", 0.999, where="id = ?", parameters=["r1"]).rows == 1
    assert client.duplicates("things", 0.999, where="id = ?", parameters=["r1"]).rows == 0
    assert client.outliers("things", 3, where="label IS NULL").rows == ROWS // 5


def test_outliers_come_whole(client, explore):
    found = client.outliers("things", 1000, neighbours=4)
    here = explore.outliers("things", 1000, neighbours=4)
    assert (found.rows, found.neighbours) == (ROWS - 1, 4)
    assert found.usual == pytest.approx(here.usual)
    assert rows_of(entry.row for entry in found.outliers) == rows_of(entry.row for entry in here.outliers)
    assert rows_of(entry.nearest for entry in found.outliers) == rows_of(e.nearest for e in here.outliers)
    for ours, theirs in zip(found.outliers, here.outliers, strict=True):
        assert (ours.distance, ours.times) == pytest.approx((theirs.distance, theirs.times))
        assert (ours.reason, ours.nearest_distance) == (theirs.reason, pytest.approx(theirs.nearest_distance))
    assert len(found.outliers) == 1000


def test_clusters_come_whole(client, explore):
    found, here = client.clusters("things"), explore.clusters("things")
    assert (found.chosen, found.rows, len(found.clusters)) == (True, ROWS - 1, 3)
    assert found.silhouette == pytest.approx(here.silhouette)
    assert found.ids == here.ids.to_pylist()
    np.testing.assert_array_equal(found.numbers, here.numbers)
    for ours, theirs in zip(found.clusters, here.clusters, strict=True):
        assert rows_of(ours.representatives) == rows_of(theirs.representatives)
        assert (ours.number, ours.rows, ours.labelled) == (theirs.number, theirs.rows, theirs.labelled)
        assert (tuple(ours.labels.items()), ours.cohesion) == (theirs.labels, pytest.approx(theirs.cohesion))
    assert [cluster.rows for cluster in client.clusters("things", 1).clusters] == [ROWS - 1]
    assert client.clusters("things", 1).silhouette is None


def test_a_map_comes_whole(client, explore):
    found = client.map("things", points=1500, clusters=4)
    here = explore.map("things", points=1500, clusters=4)
    assert (found.method, found.rows, len(found.points)) == ("pca", ROWS - 1, 1500)
    np.testing.assert_array_equal(found.places, here.places)
    np.testing.assert_array_equal(found.clusters, here.clusters)
    assert rows_of(found.points) == rows_of(here.points)
    assert found.explained == pytest.approx(here.explained)


def test_labels_of_rows_with_several(client):
    (group,) = client.duplicates("tags").groups
    assert {copy.row.label for copy in group.rows} == {("x", "y"), (), None}
    assert client.clusters("tags", 1).clusters[0].labels == {"x": 1, "y": 1}


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda client: client.duplicates("absent"), trunkline.NotFound, "absent"),
        (lambda client: client.duplicates("things", 2.0), trunkline.InvalidRequest, "cosine above 0"),
        (lambda client: client.duplicates("things", "x"), trunkline.InvalidRequest, "must be a number"),
        (lambda client: client.outliers("things", 0), trunkline.InvalidRequest, "positive integer"),
        (lambda client: client.outliers("things", 1001), trunkline.InvalidRequest, "1 to 1,000"),
        (lambda client: client.outliers("things", where="no = 1"), trunkline.InvalidRequest, "no"),
        (lambda client: client.clusters("things", where="label = ?"), trunkline.InvalidRequest, "parameter"),
        (lambda client: client.clusters("things", 10**6), trunkline.InvalidRequest, "1 to 1,000 clusters"),
        (lambda client: client.clusters("empty"), trunkline.FailedPrecondition, "no rows"),
        (lambda client: client.map("empty"), trunkline.FailedPrecondition, "no rows"),
        (lambda client: client.outliers("empty"), trunkline.FailedPrecondition, "at least 2"),
        (lambda client: client.map("things", "tsne"), trunkline.InvalidRequest, "'pca' or 'umap'"),
        (lambda client: client.map("things", points=10**6), trunkline.InvalidRequest, "1 to 100,000"),
    ],
)
def test_errors_say_what_is_wrong(client, ask, error, words):
    with pytest.raises(error, match=words):
        ask(client)


def test_an_empty_collection_has_no_duplicates(client):
    found = client.duplicates("empty")
    assert (found.rows, found.groups, found.ids_to_delete) == (0, (), [])


def test_both_clients_give_one_answer(server):
    async def awaited():
        async with trunkline.AsyncClient(str(server.address)) as client:
            return [
                await client.duplicates("things", 0.999),
                await client.outliers("things", 5),
                await client.clusters("things", 3),
                await client.map("things", points=100),
            ]

    with trunkline.Client(str(server.address)) as client:
        here = [
            client.duplicates("things", 0.999),
            client.outliers("things", 5),
            client.clusters("things", 3),
            client.map("things", points=100),
        ]
    for ours, theirs in zip(here, asyncio.run(awaited()), strict=True):
        assert type(ours) is type(theirs)
        for name, value in vars(ours).items():
            np.testing.assert_equal(value, vars(theirs)[name])


@pytest.fixture
def endless(monkeypatch):
    """Looks for duplicates until nobody waits for them any more."""

    def look(_live, _threshold, *, told, **_options):
        while True:
            told("comparing", 0.5)

    monkeypatch.setattr(exploring, "find_duplicates", look)


class Enough(Exception):
    pass


def test_the_work_ends_with_its_caller_and_others_wait_for_it(server, endless):
    explore = server.workspace.explore
    with trunkline.Client(str(server.address), retries=0) as client:

        def busy(stage, _share):
            if stage != "comparing":
                return
            with pytest.raises(trunkline.Overloaded, match="one at a time"):
                client.clusters("things", 2)
            raise Enough

        with pytest.raises(Enough):
            client.duplicates("things", progress=busy)
        assert explore._free.acquire(timeout=60)
        explore._free.release()
        assert len(client.clusters("things", 2).clusters) == 2


def test_a_result_that_lacks_pieces_is_refused():
    from trunkline._wire.explore import FindClusters, FindDuplicates
    from trunkline_protos.v1 import explore_pb2

    look = FindClusters("things", None, None, ())
    with pytest.raises(trunkline.Internal, match="without a result"):
        look.result()
    explored = explore_pb2.Explored(collection="things", rows=3)
    look.read(explore_pb2.FindClustersReply(summary=explore_pb2.ClustersSummary(explored=explored)))
    look.read(explore_pb2.FindClustersReply(rows=explore_pb2.ClusterRows(ids=["a", "b"], clusters=[0, 0])))
    with pytest.raises(trunkline.Internal, match="2 rows of 3"):
        look.result()
    groups = FindDuplicates("things", None, None, (), False)
    summary = explore_pb2.DuplicatesSummary(explored=explored, groups=1)
    groups.read(explore_pb2.FindDuplicatesReply(summary=summary))
    with pytest.raises(trunkline.Internal, match="0 groups of 1"):
        groups.result()
