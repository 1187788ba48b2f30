"""What there is on the server: models, limits."""

from __future__ import annotations

import json
from typing import Any

from trunkline._wire import methods
from trunkline._wire.question import Question
from trunkline.exceptions import Internal
from trunkline.values import ModelInfo, ServerInfo
from trunkline_protos.v1 import models_pb2


def models() -> Question[list[ModelInfo]]:
    """All models of the server."""
    return Question(
        methods.LIST_MODELS,
        models_pb2.ListModelsRequest(),
        lambda reply: [model_info(m) for m in reply.models],
    )


def model(name: str) -> Question[ModelInfo]:
    """One model; an empty name asks for the default."""
    return Question(methods.GET_MODEL, models_pb2.GetModelRequest(model=name), model_info)


def server_info() -> Question[ServerInfo]:
    """The server's version and limits."""
    return Question(methods.GET_SERVER_INFO, models_pb2.GetServerInfoRequest(), _server_info)


def model_info(message: models_pb2.Model) -> ModelInfo:
    """A model as the server describes it."""
    return ModelInfo(
        name=message.name,
        version=message.version,
        space_id=message.space_id,
        artifact_id=message.artifact_id,
        dim=message.dim,
        input_height=message.input_height,
        input_width=message.input_width,
        precision=message.precision,
        source=message.source,
        pretrained=message.pretrained,
        license=message.license,
        parameters=message.parameters,
        is_default=message.is_default,
        loaded=message.loaded,
        card=card_of(message.card_json, f"model {message.name!r}"),
    )


def _server_info(message: models_pb2.ServerInfo) -> ServerInfo:
    return ServerInfo(
        version=message.version,
        max_message_bytes=message.max_message_bytes,
        max_images_per_request=message.max_images_per_request,
        max_image_bytes=message.max_image_bytes,
        max_image_pixels=message.max_image_pixels,
        device=message.device,
        decode=message.decode,
    )


def card_of(text: str, owner: str) -> dict[str, Any]:
    """The card in its JSON text; empty where there is none.

    Raises:
        Internal: It is no JSON object; ``owner`` names whose it is.
    """
    return document(text, f"the server's card of {owner}") if text else {}


def document(text: str, what: str) -> dict[str, Any]:
    """The JSON object in a text.

    Raises:
        Internal: It is none; ``what`` names it.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as exc:
        raise Internal(f"{what} is not JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise Internal(f"{what} is no JSON object")
    return found
