"""The fake's answers about images, models and collections."""

# ruff: noqa: N802 - gRPC names the methods of a servicer.

from __future__ import annotations

import hashlib

import grpc
from tests.clients.fake import Fake, Refusal, content_of, packed, refuse, unpacked

from trunkline_protos.v1 import (
    collections_pb2,
    collections_pb2_grpc,
    common_pb2,
    embedding_pb2,
    embedding_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
)


class Services(
    embedding_pb2_grpc.EmbeddingServicer,
    models_pb2_grpc.ModelsServicer,
    collections_pb2_grpc.CollectionsServicer,
):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def Embed(self, request, context):
        contents = [content_of(image) for image in request.images]
        with self.fake.serving(request, context, contents):
            if request.expect_space_id not in ("", self.fake.space_id):
                message = f"the model's space is {self.fake.space_id}, expected {request.expect_space_id}"
                mismatch = (("trunkline-reason", "space_mismatch"),)
                refuse(context, Refusal(grpc.StatusCode.FAILED_PRECONDITION, message, mismatch))
            matrix, errors = self.fake.embed(contents)
            return embedding_pb2.EmbedResponse(
                embeddings=packed(matrix, request.type == common_pb2.FLOAT_TYPE_FLOAT16),
                errors=errors,
                model=self.fake.model_ref(),
                timings=common_pb2.Timings(decode_ms=1, queue_ms=2, infer_ms=3),
            )

    def GetServerInfo(self, request, context):
        self.fake.infos += 1
        if self.fake.refuse_infos:
            refuse(context, self.fake.refuse_infos.popleft())
        return models_pb2.ServerInfo(
            version="0.1.0",
            max_message_bytes=self.fake.max_message_bytes,
            max_images_per_request=self.fake.max_images,
            device="cpu",
            decode="exact",
        )

    def GetModel(self, request, context):
        if self.fake.refuse_models is not None:
            refuse(context, self.fake.refuse_models)
        if request.model not in ("", "fake", "fake@3"):
            gone = (("trunkline-reason", "model_not_found"),)
            refuse(context, Refusal(grpc.StatusCode.NOT_FOUND, f"no model {request.model!r}", gone))
        return self.fake.model()

    def ListModels(self, request, context):
        return models_pb2.ListModelsResponse(models=[self.fake.model()])

    def Add(self, request, context):
        contents = [content_of(item.image) for item in request.items]
        with self.fake.serving(request, context, contents):
            _, errors = self.fake.embed(contents)
            ids = []
            for item, content in zip(request.items, contents, strict=True):
                ids.append(item.id or hashlib.sha256(content).hexdigest()[:32])
                self.fake.rows[request.collection, ids[-1]] = item
            return collections_pb2.AddResponse(
                ids=ids,
                errors=errors,
                model=self.fake.model_ref(),
                collection_version=len(self.fake.requests),
            )

    def ListCollections(self, request, context):
        return collections_pb2.ListCollectionsResponse(collections=[self.GetCollection(None, context)])

    def GetCollection(self, request, context):
        labels = [collections_pb2.LabelCount(label="rose", rows=2)]
        return collections_pb2.Collection(name="flowers", version=7, rows=3, labelled=2, labels=labels)

    def CreateCollection(self, request, context):
        with self.fake.serving(request, context, []):
            return collections_pb2.Collection(name=request.name, space_id=request.space_id, dim=request.dim)

    def Upsert(self, request, context):
        with self.fake.serving(request, context, []):
            matrix = unpacked(request.embeddings)
            for index, row in enumerate(request.rows):
                self.fake.stored[row.id] = (row, matrix[index] if len(matrix) else None)
            self.fake.version += 1
            return collections_pb2.UpsertResponse(collection_version=self.fake.version)

    def GetRows(self, request, context):
        with self.fake.serving(request, context, []):
            return self.fake.batch(request.ids, request.with_embeddings, request.type)

    def Scan(self, request, context):
        with self.fake.serving(request, context, []):
            ids = list(self.fake.stored)
            size = request.batch_size or 2
            while self.fake.endless_scans:
                yield self.fake.batch(ids, request.with_embeddings, request.type)
            for start in range(0, len(ids) or 1, size):
                if start and self.fake.break_scans:
                    refuse(context, self.fake.break_scans.popleft())
                yield self.fake.batch(ids[start : start + size], request.with_embeddings, request.type)

    def Relabel(self, request, context):
        with self.fake.serving(request, context, []):
            self.fake.version += 1
            rows = len(request.changes.values) or 7
            return collections_pb2.RelabelResponse(rows=rows, collection_version=self.fake.version)

    def DeleteRows(self, request, context):
        with self.fake.serving(request, context, []):
            self.fake.version += 1
            rows = len(request.ids.ids) or 7
            return collections_pb2.DeleteRowsResponse(rows=rows, collection_version=self.fake.version)

    def Purge(self, request, context):
        with self.fake.serving(request, context, []):
            return collections_pb2.PurgeResponse(rows=1, unowned_files=0 if request.exclusive else 2)
