"""trunkline.v1.Heads."""

# ruff: noqa: N802 - gRPC names the methods of a servicer.

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import grpc

from trunkline_protos.v1 import common_pb2, heads_pb2, heads_pb2_grpc
from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.card import HeadCard
from trunkline_service.server import converters, head_converters, search_converters, working
from trunkline_service.server.servicers.calls import caller_of
from trunkline_service.workspace import Predicted, PredictOptions, Workspace

# More than the registry keeps loaded would be loaded anew by every call.
_MOST_HEADS = 256


class HeadsServicer(heads_pb2_grpc.HeadsServicer):
    """Small models over embeddings. Each method: see heads.proto."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def Predict(
        self, request: heads_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> heads_pb2.PredictResponse:
        """See heads.proto."""
        converters.check_count(len(request.heads), _MOST_HEADS, "heads")
        options = head_converters.predict_options_from(request)
        items = len(request.images) + len(request.ids) + request.embeddings.count
        if options.neighbours:
            search_converters.check_hits(items, options.k)
        options = dataclasses.replace(options, admit=lambda cards: self._check_size(cards, items, request))
        predicted = self._predict(request, context, options)
        response = heads_pb2.PredictResponse(
            predictions=[
                head_converters.prediction_to(prediction, request.top_k)
                for prediction in predicted.predictions
            ],
            errors=converters.errors_to(predicted.errors),
        )
        if predicted.embedded is not None:
            response.model.CopyFrom(converters.model_ref_to(predicted.embedded))
            response.timings.CopyFrom(converters.timings_to(predicted.embedded.timings))
        if request.with_embeddings:
            packed = converters.matrix_to(predicted.vectors, common_pb2.FLOAT_TYPE_FLOAT32)
            response.embeddings.CopyFrom(packed)
        if predicted.neighbours is not None:
            response.neighbours.CopyFrom(search_converters.found_to(predicted.neighbours))
        return response

    def Fit(
        self, request: heads_pb2.FitRequest, context: grpc.ServicerContext
    ) -> Iterator[heads_pb2.FitProgress]:
        """See heads.proto."""
        options = head_converters.fit_options_from(request.options)
        steps = working.stream(
            lambda report: self._workspace.fit_head(
                request.collection,
                request.name,
                request.kind or "logistic",
                options,
                target=request.target or "label",
                group=request.group or None,
                test_split=request.test_split or "test",
                promote=not request.candidate,
                warm=request.warm,
                report=not request.no_report,
                progress=report,
            ),
            context,
        )
        for step in steps:
            if isinstance(step, working.Done):
                # Notes on what failed after it was saved are in this card alone.
                entry = dataclasses.replace(self._workspace.heads.entry(step.result.ref), card=step.result)
                yield heads_pb2.FitProgress(share=1.0, head=head_converters.head_to(entry))
            else:
                yield heads_pb2.FitProgress(share=step.share, stage=step.stage)

    def Migrate(
        self, request: heads_pb2.MigrateRequest, context: grpc.ServicerContext
    ) -> Iterator[heads_pb2.MigrateProgress]:
        """See heads.proto."""
        steps = working.stream(
            lambda report: self._workspace.migrate_head(
                request.head, request.collection, promote=request.promote, progress=report
            ),
            context,
        )
        for step in steps:
            if isinstance(step, working.Done):
                entries = [
                    self._workspace.heads.entry(c.ref) for c in (step.result.before, step.result.after)
                ]
                migration = head_converters.migration_to(step.result, *entries)
                yield heads_pb2.MigrateProgress(share=1.0, migration=migration)
            else:
                yield heads_pb2.MigrateProgress(share=step.share, stage=step.stage)

    def ListHeads(
        self, request: heads_pb2.ListHeadsRequest, context: grpc.ServicerContext
    ) -> heads_pb2.ListHeadsResponse:
        """See heads.proto."""
        return heads_pb2.ListHeadsResponse(
            heads=[head_converters.head_to(entry) for entry in self._workspace.list_heads()]
        )

    def GetHead(self, request: heads_pb2.GetHeadRequest, context: grpc.ServicerContext) -> heads_pb2.Head:
        """See heads.proto."""
        return self._head(request.head)

    def GetReport(
        self, request: heads_pb2.GetReportRequest, context: grpc.ServicerContext
    ) -> heads_pb2.GetReportResponse:
        """See heads.proto."""
        card, report = self._workspace.head_report(request.head)
        return heads_pb2.GetReportResponse(head=head_converters.head_ref_to(card), report_json=report.dumps())

    def Suggest(
        self, request: heads_pb2.SuggestRequest, context: grpc.ServicerContext
    ) -> heads_pb2.SuggestResponse:
        """See heads.proto."""
        count = request.count or head_converters.DEFAULT_SUGGESTIONS
        found = self._workspace.suggest_labels(request.head, request.collection, count)
        return head_converters.suggested_to(found)

    def Promote(self, request: heads_pb2.PromoteRequest, context: grpc.ServicerContext) -> heads_pb2.Head:
        """See heads.proto."""
        return self._head(self._workspace.heads.promote(request.head, request.version).ref)

    def Rollback(self, request: heads_pb2.RollbackRequest, context: grpc.ServicerContext) -> heads_pb2.Head:
        """See heads.proto."""
        card = self._workspace.heads.rollback(request.head, serving=request.serving_version or None)
        return self._head(card.ref)

    def DeleteHead(
        self, request: heads_pb2.DeleteHeadRequest, context: grpc.ServicerContext
    ) -> heads_pb2.DeleteHeadResponse:
        """See heads.proto."""
        self._workspace.heads.delete(request.head)
        return heads_pb2.DeleteHeadResponse()

    def SetAlias(
        self, request: heads_pb2.SetHeadAliasRequest, context: grpc.ServicerContext
    ) -> heads_pb2.Head:
        """See heads.proto."""
        self._workspace.heads.set_alias(request.head, request.alias, request.version)
        return self._head(f"{request.head}@{request.version}")

    def DeleteAlias(
        self, request: heads_pb2.DeleteHeadAliasRequest, context: grpc.ServicerContext
    ) -> heads_pb2.Head:
        """See heads.proto."""
        self._workspace.heads.delete_alias(request.head, request.alias)
        return self._head(request.head)

    def SetShadow(self, request: heads_pb2.SetShadowRequest, context: grpc.ServicerContext) -> heads_pb2.Head:
        """See heads.proto."""
        self._workspace.heads.set_shadow(request.head, request.version or None)
        return self._head(request.head)

    def _head(self, reference: str) -> heads_pb2.Head:
        return head_converters.head_to(self._workspace.heads.entry(reference))

    def _predict(
        self, request: heads_pb2.PredictRequest, context: grpc.ServicerContext, options: PredictOptions
    ) -> Predicted:
        kinds = [bool(request.images), request.HasField("embeddings"), bool(request.ids)]
        if sum(kinds) != 1:
            raise InvalidArgument(
                "a Predict request holds exactly one of images, embeddings and ids; "
                f"this one holds {sum(kinds)}"
            )
        settings = self._workspace.settings
        if request.ids:
            converters.check_count(len(request.ids), settings.max_images_per_request, "ids")
            return self._workspace.predict_ids(request.heads, request.collection, request.ids, options)
        if request.HasField("embeddings"):
            vectors = converters.matrix_from(request.embeddings)
            return self._workspace.predict_vectors(request.heads, vectors, request.space_id, options)
        images = converters.images_from(request.images, settings.max_images_per_request)
        caller = caller_of(context, request.lane)
        return self._workspace.predict(request.heads, images, request.model, caller, options)

    def _check_size(self, cards: Sequence[HeadCard], items: int, request: heads_pb2.PredictRequest) -> None:
        head_converters.check_size(
            cards,
            items,
            self._workspace.settings.max_message_bytes,
            top_k=request.top_k,
            with_embeddings=request.with_embeddings,
        )
