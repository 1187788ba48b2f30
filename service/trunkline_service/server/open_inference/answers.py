"""What the service answers: domain -> messages of package ``inference``. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from trunkline_protos.open_inference import inference_pb2, model_config_pb2
from trunkline_service.batching.engine import Embedded
from trunkline_service.errors import ImageError, TrunklineError
from trunkline_service.models.card import ModelCard
from trunkline_service.models.triton_config import INPUT_NAME, MODEL_FILE, OUTPUT_NAME
from trunkline_service.server.converters import matrix_to
from trunkline_service.server.open_inference.requests import DATATYPES, FLOAT_TYPES

SERVER_NAME = "trunkline"
EXTENSIONS = ("model_configuration",)
_PLATFORM = "onnxruntime_onnx"
_BACKEND = "onnxruntime"
# Reasons of images that are told in full; the status travels in a header of bounded size.
_TOLD = 5

_Metadata = inference_pb2.ModelMetadataResponse.TensorMetadata
_Index = inference_pb2.RepositoryIndexResponse.ModelIndex


def infer_response(embedded: Embedded, request_id: str, datatype: str) -> inference_pb2.ModelInferResponse:
    """The vectors of a request.

    Args:
        embedded: All of its images were served.
        request_id: Comes back.
        datatype: ``FP32`` or ``FP16``.

    Raises:
        TrunklineError: An image was not served; see `failure_of`.
        InvalidArgument: FP16 was asked for and a value does not fit into it.
    """
    if embedded.errors:
        raise failure_of(embedded.errors, len(embedded.vectors))
    card = embedded.card
    output = inference_pb2.ModelInferResponse.InferOutputTensor(
        name=OUTPUT_NAME, datatype=datatype, shape=embedded.vectors.shape
    )
    return inference_pb2.ModelInferResponse(
        model_name=card.name,
        model_version=str(card.version),
        id=request_id,
        parameters={
            name: inference_pb2.InferParameter(string_param=text)
            for name, text in _identity(card, embedded.decode).items()
        },
        outputs=[output],
        raw_output_contents=[matrix_to(embedded.vectors, FLOAT_TYPES[datatype]).data],
    )


def failure_of(errors: Mapping[int, TrunklineError], count: int) -> TrunklineError:
    """One error for a call of which images failed, since this protocol has none by item.

    Args:
        errors: By position of the image.
        count: Images of the request.

    Returns:
        If images can't be used, an ImageError that names each, of their common kind where they have one.
        Otherwise what befell the first.
    """
    bad = {index: error for index, error in sorted(errors.items()) if isinstance(error, ImageError)}
    if not bad:
        return errors[min(errors)]
    kinds = {type(error) for error in bad.values()}
    kind = kinds.pop() if len(kinds) == 1 else ImageError
    told = [f"image {index}: {error.message}" for index, error in list(bad.items())[:_TOLD]]
    if len(bad) > _TOLD:
        told.append(f"and at {', '.join(map(str, list(bad)[_TOLD:]))}")
    return kind(
        f"{len(bad)} of {count} images can't be used, and this protocol answers for all or none; "
        f"leave them out. {'; '.join(told)}"
    )


def metadata_of(card: ModelCard, versions: Sequence[int]) -> inference_pb2.ModelMetadataResponse:
    """The model as Triton would describe the same folder, with any number of images."""
    height, width = card.preprocess.input_size
    return inference_pb2.ModelMetadataResponse(
        name=card.name,
        versions=[str(version) for version in versions],
        platform=_PLATFORM,
        inputs=[_Metadata(name=INPUT_NAME, datatype="UINT8", shape=[-1, height, width, 3])],
        outputs=[_Metadata(name=OUTPUT_NAME, datatype="FP32", shape=[-1, card.dim])],
    )


def config_of(card: ModelCard, decode: str, most: int) -> inference_pb2.ModelConfigResponse:
    """The same in the words of ``config.pbtxt``.

    Args:
        card: The model.
        decode: The server's decode mode.
        most: Images that one request may hold.
    """
    height, width = card.preprocess.input_size
    image = model_config_pb2.ModelInput(
        name=INPUT_NAME,
        data_type=model_config_pb2.TYPE_UINT8,
        format=model_config_pb2.ModelInput.FORMAT_NHWC,
        dims=[height, width, 3],
    )
    embedding = model_config_pb2.ModelOutput(
        name=OUTPUT_NAME, data_type=model_config_pb2.TYPE_FP32, dims=[card.dim]
    )
    return inference_pb2.ModelConfigResponse(
        config=model_config_pb2.ModelConfig(
            name=card.name,
            platform=_PLATFORM,
            backend=_BACKEND,
            max_batch_size=most,
            input=[image],
            output=[embedding],
            dynamic_batching=model_config_pb2.ModelDynamicBatching(),
            default_model_filename=MODEL_FILE,
            parameters={
                name: model_config_pb2.ModelParameter(string_value=text)
                for name, text in {**_identity(card, decode), "input_datatypes": ",".join(DATATYPES)}.items()
            },
        )
    )


def index_of(
    cards: Sequence[ModelCard], loaded: Collection[str], *, only_ready: bool
) -> inference_pb2.RepositoryIndexResponse:
    """The published models; READY where they are loaded and warm."""
    models = [
        _Index(name=card.name, version=str(card.version), state="READY")
        if card.reference in loaded
        else _Index(
            name=card.name,
            version=str(card.version),
            state="UNAVAILABLE",
            reason="not loaded yet: the first call that names it loads it",
        )
        for card in cards
    ]
    return inference_pb2.RepositoryIndexResponse(
        models=[model for model in models if model.state == "READY" or not only_ready]
    )


def _identity(card: ModelCard, decode: str) -> dict[str, str]:
    """Contract 1: every reply says in which space its vectors lie."""
    return {"space_id": card.space_id, "artifact_id": card.artifact.artifact_id, "decode": decode}
