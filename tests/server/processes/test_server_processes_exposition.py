"""The metrics of several processes are those of one that did all of their work."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from trunkline_service.server.metrics import Metrics
from trunkline_service.server.processes.exposition import lasting, merged, parsed

METHODS = ("/trunkline.v1.Embedding/Embed", '/odd"\\\n')
events = st.one_of(
    st.tuples(
        st.just("call"),
        st.sampled_from(METHODS),
        st.sampled_from(["OK", "INTERNAL"]),
        st.sampled_from([0.25, 4.0]),
    ),
    st.tuples(st.just("decoded"), st.sampled_from([0.5, 2.0])),
    st.tuples(st.just("batch"), st.just("tiny@1"), st.integers(1, 64), st.just(0.25)),
    st.tuples(st.just("image_failed"), st.sampled_from(["empty_image", "corrupt_image"])),
)
work = st.lists(events, max_size=8)


def metrics_of(happened, *, ready=True):
    metrics = Metrics()
    for name, *arguments in happened:
        getattr(metrics, name)(*arguments)
    metrics.ready(ready)
    return metrics


def text_of(metrics):
    return generate_latest(metrics.registry).decode()


def samples(page):
    """Values by name and labels, but for the times at which counting began."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in page
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(work, min_size=1, max_size=4))
def test_the_sum_of_the_parts_is_the_whole(parts):
    whole = samples(parsed(text_of(metrics_of([event for part in parts for event in part]))))
    assert samples(merged(parsed(text_of(metrics_of(part))) for part in parts)) == whole


@given(work, work)
def test_what_was_counted_stays_and_what_was_measured_goes_with_its_process(first, second):
    dead, alive = metrics_of(first), metrics_of(second)
    alive.watch(lambda: {"decode": 2, "infer": 3}, lambda: 5, lambda: 7)
    dead.watch(lambda: {"decode": 100, "infer": 100}, lambda: 100, lambda: 100)
    after = samples(merged([lasting(parsed(text_of(dead))), parsed(text_of(alive))]))
    before = samples(parsed(text_of(dead)))
    counters = [key for key in before if key[0].endswith(("_total", "_count", "_sum", "_bucket"))]
    assert all(after[key] >= before[key] for key in counters)
    assert after["trunkline_admitted_images", ()] == 5
    assert after["trunkline_queued_images", (("stage", "infer"),)] == 3


def test_one_that_is_not_ready_is_enough():
    pages = [parsed(text_of(metrics_of([], ready=ready))) for ready in (True, False, True)]
    assert samples(merged(pages))["trunkline_ready", ()] == 0
    assert samples(merged(pages[::2]))["trunkline_ready", ()] == 1


def test_the_page_is_the_text_of_prometheus_again():
    metrics = metrics_of([("decoded", 0.5), ("call", METHODS[1], "OK", 0.25)])

    class Whole:
        def collect(self):
            return merged([parsed(text_of(metrics))])

    registry = CollectorRegistry()
    registry.register(Whole())
    assert generate_latest(registry).decode() == text_of(metrics)
