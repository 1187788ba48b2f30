"""The exception tree is what its drawing says, and each status becomes one of it."""

from __future__ import annotations

import inspect
import re
import threading

import grpc
import pytest

import trunkline
from trunkline import exceptions
from trunkline._wire import status

CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: trunkline.InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: trunkline.InvalidRequest,
    grpc.StatusCode.NOT_FOUND: trunkline.NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: trunkline.FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: trunkline.Overloaded,
    grpc.StatusCode.UNAVAILABLE: trunkline.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: trunkline.Timeout,
    grpc.StatusCode.CANCELLED: trunkline.Cancelled,
    grpc.StatusCode.UNAUTHENTICATED: trunkline.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: trunkline.PermissionDenied,
    grpc.StatusCode.UNIMPLEMENTED: trunkline.Unsupported,
    grpc.StatusCode.INTERNAL: trunkline.Internal,
    grpc.StatusCode.UNKNOWN: trunkline.Internal,
    grpc.StatusCode.DATA_LOSS: trunkline.Internal,
    grpc.StatusCode.ABORTED: trunkline.Internal,
    grpc.StatusCode.ALREADY_EXISTS: trunkline.Internal,
}


def classes() -> dict[str, type[BaseException]]:
    members = inspect.getmembers(exceptions, inspect.isclass)
    return {name: value for name, value in members if value.__module__ == exceptions.__name__}


def test_the_drawing_shows_every_class_under_its_parent():
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (exceptions.__doc__ or "").splitlines():
        if match := re.match(r"    ((?:[|+ ]   |\+-- )*)(\w+)(?:  |$)", line):
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            drawn[match[2]] = path[depth - 1] if depth else "Exception"
    assert drawn == {name: value.__bases__[0].__name__ for name, value in classes().items()}


def test_every_class_is_public_and_has_a_reason_of_its_own():
    assert set(classes()) <= set(trunkline.__all__)
    reasons = [value.default_reason for value in classes().values()]
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_each_status_becomes_its_exception(fake, call, refusal, code):
    fake.refusals.append(refusal(code, "the details", (("trunkline-reason", "a_word"),)))
    with pytest.raises(trunkline.TrunklineError) as caught:
        call(fake, "embed", [b"a", b"b"], client={"retries": 0})
    assert type(caught.value) is CODES[code]
    assert caught.value.reason == "a_word"
    assert caught.value.code is code
    assert "the details" in caught.value.message
    assert caught.value.items == range(2)
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_without_a_reason_the_class_has_one(fake, call, refusal):
    fake.refusals.append(refusal(grpc.StatusCode.NOT_FOUND, "gone"))
    with pytest.raises(trunkline.NotFound) as caught:
        call(fake, "embed", b"a")
    assert caught.value.reason == "not_found"
    # One item, the first of one: saying so would tell nothing.
    assert str(caught.value) == "gone"


def test_what_something_between_refuses_by_size_names_the_remedy(serve, call):
    fake = serve(max_message_bytes=4000)
    # The server says more than it takes, as one behind a proxy would.
    fake.max_message_bytes = 1_000_000
    with pytest.raises(trunkline.MessageTooLarge, match="chunk_bytes=") as caught:
        call(fake, "embed", b"x" * 9000)
    assert caught.value.reason == "message_too_large"


def test_no_answer_in_time_is_a_timeout_that_says_how_long(fake, call):
    fake.gates[b"slow"] = gate = threading.Event()
    with pytest.raises(trunkline.Timeout, match=r"within 0\.1 s; raise timeout=") as caught:
        call(fake, "embed", b"slow", timeout=0.1)
    gate.set()
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_call_that_the_server_lacks_is_told_apart(fake):
    with grpc.insecure_channel(fake.target) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/trunkline.v1.Embedding/Later")(b"")
    refusal = status.read(caught.value, fake.target)
    assert refusal.kind is trunkline.Unsupported
    assert "older than this client" in refusal.message
    assert not refusal.retryable


def test_unknown_numbers_of_item_codes_are_unknown():
    assert status.code_of(3) is grpc.StatusCode.INVALID_ARGUMENT
    assert status.code_of(8) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status.code_of(999) is grpc.StatusCode.UNKNOWN


def test_item_errors_name_the_first_few_and_keep_all(fake, call):
    result = call(fake, "embed", [b"bad"] * 5 + [b"good"])
    with pytest.raises(
        trunkline.ItemErrors, match=r"5 of 6 items failed: #0 corrupt_image.*and 2 more"
    ) as caught:
        result.raise_for_errors()
    assert [f.index for f in caught.value.failures] == [0, 1, 2, 3, 4]
    good = call(fake, "embed", b"good")
    assert good.raise_for_errors() is good
