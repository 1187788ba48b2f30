"""The metrics of several processes as those of one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_READY = "trunkline_ready"
_CREATED = "_created"
_COUNTING = frozenset({"counter", "histogram", "summary"})


def parsed(text: str) -> list[Metric]:
    """The metrics of one process, from its page.

    Raises:
        ValueError: It is no page of Prometheus' text format.
    """
    return list(text_string_to_metric_families(text))


def merged(pages: Iterable[Sequence[Metric]]) -> list[Metric]:
    """One page: what counts is summed, and so are gauges; the server is ready if all processes are.

    Args:
        pages: Of the processes, and of those that have died what is `lasting`.
    """
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], Sample]] = {}
    for family in (family for page in pages for family in page):
        whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        samples = values.setdefault(family.name, {})
        together = _together(family)
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            known = samples.get(key)
            if known is not None:
                sample = sample._replace(value=together([known.value, sample.value]))  # noqa: PLW2901
            samples[key] = sample
        whole.samples = list(samples.values())
    return list(families.values())


def lasting(page: Iterable[Metric]) -> list[Metric]:
    """What stays of a process that has died: what it counted, and since when."""
    return [family for family in page if family.type in _COUNTING or family.name.endswith(_CREATED)]


def _together(family: Metric) -> Callable[[Sequence[float]], float]:
    # A time is no amount: what has been counted, has been since the first process began.
    return min if family.name == _READY or family.name.endswith(_CREATED) else sum
