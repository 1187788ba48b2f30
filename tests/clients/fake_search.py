"""The fake's answers about neighbours and indexes."""

# ruff: noqa: N802 - gRPC names the methods of a servicer.

from __future__ import annotations

from tests.clients.fake import Fake, content_of, refuse, unpacked, vector_of

from trunkline_protos.v1 import collections_pb2, common_pb2, search_pb2, search_pb2_grpc


class Search(search_pb2_grpc.SearchServicer):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def label(self, rank):
        if not self.fake.multi_label:
            return {"label": "rose" if rank == 0 else None}
        return {"labels": [common_pb2.Labels(labels=["rose", "red"]), common_pb2.Labels(), None][rank]}

    def metadata(self, rank, columns):
        """By column the rank, null in the second hit; of the column "newer" nothing, as an older server."""
        value = collections_pb2.Value(integer=rank) if rank != 1 else collections_pb2.Value()
        return {name: value for name in columns if name != "newer"}

    def Search(self, request, context):
        contents = [content_of(image) for image in request.images]
        with self.fake.serving(request, context, contents):
            _, errors = self.fake.embed(contents)
            names = list(request.ids) or [str(int(row[0])) for row in unpacked(request.embeddings)]
            if contents:
                names = [str(int(vector_of(content)[0])) for content in contents]
            failed = {error.index for error in errors}
            results = [
                search_pb2.Hits(
                    hits=[]
                    if query in failed
                    else [
                        search_pb2.Hit(
                            id=f"{name}-{rank}",
                            score=1 - rank / 4,
                            **self.label(rank),
                            source=f"{rank}.jpg",
                            group=f"g{rank}" if request.group_by and rank else None,
                            duplicates=[f"{name}-x"] * rank if request.HasField("collapse") else [],
                            metadata=self.metadata(rank, request.columns),
                        )
                        for rank in range(request.k)
                    ]
                )
                for query, name in enumerate(names)
            ]
            reply = search_pb2.SearchResponse(
                results=results,
                errors=errors,
                collection_version=5,
                space_id=self.fake.space_id,
                metric="cosine",
            )
            flat = search_pb2.SearchResponse(index_kind="flat", exact=True, index_version=5)
            reply.MergeFrom(self.fake.told.popleft() if self.fake.told else flat)
            return reply

    def index(self, name, kind="flat", **values):
        options = search_pb2.IndexOptions(
            kind="auto", recall=0.99, k=10, memory_mb=values.pop("memory_mb", None)
        )
        return search_pb2.Index(
            collection=name,
            collection_version=5,
            kind=kind,
            options=options,
            rows=3,
            note="as asked",
            **values,
        )

    def GetIndex(self, request, context):
        with self.fake.serving(request, context, []):
            recall = search_pb2.Recall(k=10, measured=0.995, low=0.99, queries=100, version=4, rows=3)
            build = search_pb2.IndexBuild(
                id="000000000004-ab",
                collection_version=4,
                kind="hnsw",
                rows=2,
                held_out=1,
                parameters={"M": 32, "efConstruction": 200},
                effort=64,
                recall=recall,
                settings=[search_pb2.IndexSetting(effort=64, recall=0.995, queries_per_s=1000.5)],
                reason="it reached the wanted recall",
                options=search_pb2.IndexOptions(kind="hnsw", recall=0.98, k=5, memory_mb=64),
                seconds=1.5,
                memory_bytes=100,
                stored_bytes=200,
                space_id=self.fake.space_id,
                dim=8,
                metric="cosine",
                made_by={"faiss": "1"},
                created_at="2026-01-01T00:00:00+00:00",
                levels=[search_pb2.IndexLevel(effort=64, recall=recall)],
            )
            state = {"delta_rows": 1, "deleted_rows": 2, "build": build, "recall": recall, "building": True}
            return self.index(request.collection, "hnsw", memory_mb=64, **state)

    def BuildIndex(self, request, context):
        with self.fake.serving(request, context, []):
            for share in (0.0, 0.5):
                yield search_pb2.BuildIndexProgress(stage="reading", share=share)
            if self.fake.break_builds:
                refuse(context, self.fake.break_builds.popleft())
            while self.fake.endless_builds:
                yield search_pb2.BuildIndexProgress(stage="reading", share=0.5)
            if not self.fake.indexless_builds:
                yield search_pb2.BuildIndexProgress(share=1.0, index=self.index(request.collection))

    def SetIndex(self, request, context):
        with self.fake.serving(request, context, []):
            return self.index(request.collection)

    def DropIndex(self, request, context):
        with self.fake.serving(request, context, []):
            return self.index(request.collection)

    def MeasureRecall(self, request, context):
        with self.fake.serving(request, context, []):
            return search_pb2.Recall(
                k=request.k, measured=0.75, low=0.5, queries=request.queries, version=5, rows=3
            )
