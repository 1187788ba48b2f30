"""The fake's answers about heads."""

# ruff: noqa: N802 - gRPC names the methods of a servicer.

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
from tests.clients.fake import SPACE, Fake, Refusal, content_of, packed, refuse, unpacked

from trunkline_protos.v1 import common_pb2, heads_pb2, heads_pb2_grpc, search_pb2


class Heads(heads_pb2_grpc.HeadsServicer):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def head(self, version: int, **values: Any) -> heads_pb2.Head:
        known = {"serving": self.fake.head_version, "versions": range(1, self.fake.head_version + 1)}
        return heads_pb2.Head(
            name="flowers",
            version=version,
            kind="logistic",
            task="single-label",
            classes=["a", "b"],
            accuracy=0.5,
            metric="accuracy",
            score=0.5,
            aliases=self.fake.head_aliases,
            **known | values,
        )

    def ListHeads(self, request, context):
        return heads_pb2.ListHeadsResponse(heads=[self.head(1)])

    def GetHead(self, request, context):
        with self.fake.serving(request, context, []):
            if request.head.partition("@")[0] != "flowers":
                gone = (("trunkline-reason", "head_not_found"),)
                refuse(context, Refusal(grpc.StatusCode.NOT_FOUND, f"no head {request.head!r}", gone))
            return self.head(int(request.head.partition("@")[2] or self.fake.head_version))

    def GetReport(self, request, context):
        with self.fake.serving(request, context, []):
            return heads_pb2.GetReportResponse(report_json=self.fake.report)

    def Suggest(self, request, context):
        with self.fake.serving(request, context, []):
            pairs = [heads_pb2.LabelProbability(label=label, probability=0.5) for label in ("a", "b")]
            rows = [
                heads_pb2.Suggestion(id=f"{rank}", source="s", margin=0.25, reason="why", likeliest=pairs)
                for rank in range(min(request.count, 3))
            ]
            return heads_pb2.SuggestResponse(
                head=heads_pb2.HeadRef(name=request.head, version=2, space_id=self.fake.space_id),
                collection=request.collection,
                collection_version=7,
                unlabelled=9,
                asked=5,
                suggestions=rows,
            )

    def Promote(self, request, context):
        with self.fake.serving(request, context, []):
            self.fake.head_version = request.version
            return self.head(request.version)

    def Rollback(self, request, context):
        with self.fake.serving(request, context, []):
            if request.serving_version in (0, self.fake.head_version):
                self.fake.head_version -= 1
            if self.fake.lose_answers:
                refuse(context, self.fake.lose_answers.popleft())
            return self.head(self.fake.head_version)

    def DeleteHead(self, request, context):
        with self.fake.serving(request, context, []):
            return heads_pb2.DeleteHeadResponse()

    def SetAlias(self, request, context):
        with self.fake.serving(request, context, []):
            self.fake.head_aliases[request.alias] = request.version
            return self.head(request.version)

    def DeleteAlias(self, request, context):
        with self.fake.serving(request, context, []):
            del self.fake.head_aliases[request.alias]
            return self.head(self.fake.head_version)

    def SetShadow(self, request, context):
        with self.fake.serving(request, context, []):
            return self.head(self.fake.head_version, shadow=request.version or None)

    def Fit(self, request, context):
        with self.fake.serving(request, context, []):
            for share in (0.0, 0.5):
                yield heads_pb2.FitProgress(stage="fitting", share=share)
            if self.fake.break_fits:
                refuse(context, self.fake.break_fits.popleft())
            while self.fake.endless_fits:
                yield heads_pb2.FitProgress(stage="fitting", share=0.5)
            if not self.fake.headless_fits:
                yield heads_pb2.FitProgress(share=1.0, head=self.head(1))

    def Migrate(self, request, context):
        with self.fake.serving(request, context, []):
            yield heads_pb2.MigrateProgress(stage="comparing", share=0.0)
            migration = heads_pb2.Migration(
                before=self.head(1), after=self.head(2), shared_rows=4, agreement=0.75, missing_rows=1
            )
            yield heads_pb2.MigrateProgress(share=1.0, migration=migration)

    def Predict(self, request, context):
        contents = [content_of(image) for image in request.images]
        with self.fake.serving(request, context, contents):
            errors: list[common_pb2.ItemError] = []
            matrix = unpacked(request.embeddings)
            if request.ids:
                matrix = np.array([[float(name)] for name in request.ids])
            if contents:
                matrix, errors = self.fake.embed(contents)
            neighbours = None
            if request.HasField("neighbours"):
                hits = [search_pb2.Hits(hits=[search_pb2.Hit(id=f"n{k}") for k in range(2)]) for _ in matrix]
                neighbours = search_pb2.SearchResponse(results=hits, collection_version=3, metric="cosine")
            return heads_pb2.PredictResponse(
                predictions=[self.prediction(head, matrix, request) for head in request.heads],
                errors=errors,
                embeddings=packed(matrix) if request.with_embeddings else None,
                neighbours=neighbours,
            )

    def prediction(self, head: str, matrix: Any, request: Any) -> heads_pb2.Prediction:
        """Heads by their name: "value" a regression, "odd" an anomaly head, "many" multi-label, else classes."""
        name, _, version = head.partition("@")
        total = matrix.sum(axis=1)
        first = np.where(np.isnan(total), np.nan, (total % 2 == 0) * 0.5 + 0.25)
        outputs, classes, task = np.stack([first, 1 - first], axis=1), ["even", "odd"], "single-label"
        if name == "value":
            outputs, classes, task = total[:, None], ["total"], "regression"
        elif name == "odd":
            outputs, classes, task = total[:, None], [], "anomaly"
        elif name == "many":
            task = "multi-label"
        space = SPACE if name == "elsewhere" else self.fake.space_id
        if self.fake.restless_heads:
            version = len(self.fake.requests)
        made = heads_pb2.Prediction(
            head=heads_pb2.HeadRef(name=name, version=int(version or self.fake.head_version), space_id=space),
            task=task,
            classes=classes,
        )
        if request.HasField("unknown"):
            made.distances.extend(total.tolist())
            far = np.flatnonzero(total % 2 == 1).tolist()
            made.unknown.extend(heads_pb2.UnknownItem(index=index, reason="far") for index in far)
        if request.top_k and task.endswith("label"):
            order = np.argsort(-outputs, axis=1)[:, : request.top_k]
            made.top.k = order.shape[1]
            made.top.classes.extend(order.ravel().tolist())
            made.top.probabilities.extend(np.take_along_axis(outputs, order, axis=1).ravel().tolist())
        else:
            made.outputs.CopyFrom(packed(outputs))
        return made
