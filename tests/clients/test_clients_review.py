"""Reports and suggestions through both clients."""

from __future__ import annotations

import grpc
import pytest

import trunkline


def test_a_report_is_a_document(fake, call):
    assert call(fake, "head_report", "flowers@2") == {"task": "single-label"}
    assert [request.head for request in fake.requests] == ["flowers@2"]


@pytest.mark.parametrize(
    ("text", "words"), [("{", "is not JSON"), ("[]", "is no JSON object"), ("", "is not JSON")]
)
def test_a_report_that_is_none_is_the_servers_fault(fake, call, text, words):
    fake.report = text
    with pytest.raises(trunkline.Internal, match=f"report of head 'flowers' {words}"):
        call(fake, "head_report", "flowers")


def test_what_to_label_next(fake, call):
    found = call(fake, "suggest_labels", "flowers", "photos", 2)
    assert (str(found.head), found.collection, found.collection_version) == ("flowers@2", "photos", 7)
    assert (found.unlabelled, found.asked) == (9, 5)
    suggestion = trunkline.Suggestion("0", "s", 0.25, "why", (("a", 0.5), ("b", 0.5)))
    assert (len(found.rows), found.rows[0]) == (2, suggestion)
    call(fake, "suggest_labels", "flowers", "photos")
    assert [request.count for request in fake.requests] == [2, 20]


@pytest.mark.parametrize("count", [0, -1, 2.0, True, 2**32, "3"])
def test_a_count_that_cannot_be_one_is_refused_before_anything_is_asked(fake, call, count):
    with pytest.raises(trunkline.InvalidRequest, match="count is"):
        call(fake, "suggest_labels", "flowers", "photos", count)
    assert fake.requests == []


def test_a_suggestion_that_has_to_wait_is_asked_for_again(fake, call, refusal):
    busy = (("grpc-retry-pushback-ms", "1"),)
    fake.refusals.append(refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "one at a time", busy))
    assert len(call(fake, "suggest_labels", "flowers", "photos").rows) == 3
    assert len(fake.requests) == 2


def test_a_fit_without_a_report(fake, call):
    call(fake, "fit_head", "c", "h", report=False)
    call(fake, "fit_head", "c", "h")
    assert [request.no_report for request in fake.requests] == [True, False]
