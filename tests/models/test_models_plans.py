"""Execution plans: which one is chosen, and what is remembered of it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.models.choosing import Choice, candidates, choose
from trunkline_service.models.memory import available_bytes
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.plan_record import PlanKey, PlanRecords, cpu_name

PLANS = candidates(2, 16)
KEY = PlanKey("ar1-abc", "a processor", 2, 2, 16, "1.24")


@given(cores=st.integers(1, 256), max_batch=st.integers(1, 64))
def test_candidates_use_the_cores_and_no_more(cores, max_batch):
    plans = candidates(cores, max_batch)
    assert len(set(plans)) == len(plans)
    assert all(plan.threads * plan.runs <= cores and plan.batch <= max_batch for plan in plans)
    assert {ExecutionPlan(1, cores, 1), ExecutionPlan(cores, 1, 1)} <= set(plans)
    assert ExecutionPlan(1, cores, min(16, max_batch)) in plans


def test_candidates_by_the_number_of_cores():
    def splits(cores):
        return list(dict.fromkeys((plan.threads, plan.runs) for plan in candidates(cores, 16)))

    assert splits(1) == [(1, 1)]
    assert splits(2) == [(1, 2), (2, 1)]
    assert splits(4) == [(1, 4), (2, 2), (4, 1)]
    assert splits(16) == [(1, 16), (2, 8), (8, 2), (16, 1)]


@given(st.lists(st.none() | st.floats(0.1, 1000), min_size=len(PLANS), max_size=len(PLANS)))
def test_the_first_plan_near_the_best_is_chosen(rates):
    given_rates = dict(zip(PLANS, rates, strict=True))
    found = choose(PLANS, given_rates.__getitem__)
    measured = {plan: rate for plan, rate in given_rates.items() if rate is not None}
    assert found.rates == measured
    best = max(measured.values(), default=0)
    near = [plan for plan in PLANS if plan in measured and measured[plan] * 1.1 >= best]
    assert found.plan == (near[0] if near else PLANS[0])


@given(st.lists(st.floats(0.1, 1000), min_size=len(PLANS), max_size=len(PLANS)))
def test_what_is_near_the_best_is_measured_again_and_what_is_not_is_not(rates):
    given_rates = dict(zip(PLANS, rates, strict=True))
    asked = []

    def measure(plan):
        asked.append(plan)
        return given_rates[plan]

    choose(PLANS, measure)
    best = max(rates)
    near = [plan for plan in PLANS if given_rates[plan] >= 0.86 * best]
    for plan in PLANS:
        if given_rates[plan] < 0.69 * best:
            assert asked.count(plan) == 1
        elif plan in near and len(near) > 1:
            assert asked.count(plan) == 3


def test_one_slow_round_of_the_best_plan_does_not_lose_it():
    best = PLANS[-1]
    slow = itertools.chain([0.8], itertools.repeat(1.0))
    found = choose(PLANS, lambda plan: 200 * next(slow) if plan == best else 130.0)
    assert found == Choice(best, {plan: 200.0 if plan == best else 130.0 for plan in PLANS})


def test_plans_of_few_images_are_measured_first():
    asked = []
    choose(PLANS, lambda plan: asked.append(plan.runs * plan.batch))
    assert asked == sorted(asked)


def test_a_record_is_found_again_by_its_key_alone(tmp_path):
    records = PlanRecords(tmp_path / "cache")
    assert records.get(KEY) is None
    plan = ExecutionPlan(1, 2, 4)
    records.put(KEY, Choice(plan, {plan: 12.5}))
    assert records.get(KEY) == plan
    for field in dataclasses.fields(PlanKey):
        value = getattr(KEY, field.name)
        other = value + 1 if isinstance(value, int) else f"{value}x"
        assert records.get(dataclasses.replace(KEY, **{field.name: other})) is None
    # Nothing but the record: no draft is left.
    assert len(list((tmp_path / "cache" / "plans").iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda record: "{",
        lambda record: "[]",
        lambda record: "null",
        lambda record: json.dumps(record | {"schema": 2}),
        lambda record: json.dumps(record | {"key": record["key"] | {"cores": 3}}),
        lambda record: json.dumps(record | {"plan": {"threads": 1, "runs": 1}}),
        lambda record: json.dumps(record | {"plan": record["plan"] | {"batch": 0}}),
        lambda record: json.dumps(record | {"plan": record["plan"] | {"batch": 1.5}}),
        lambda record: json.dumps(record | {"plan": record["plan"] | {"speed": 1}}),
        lambda record: json.dumps(record | {"plan": [1, 2, 4]}),
    ],
)
def test_a_damaged_record_is_no_record(tmp_path, change, caplog):
    records = PlanRecords(tmp_path)
    records.put(KEY, Choice(ExecutionPlan(1, 2, 4), {}))
    (path,) = (tmp_path / "plans").iterdir()
    path.write_text(change(json.loads(path.read_text())))
    assert records.get(KEY) is None
    assert "measured anew" in caplog.text


def test_a_cache_that_cannot_be_written_is_logged_and_no_error(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    records = PlanRecords(tmp_path / "file")
    records.put(KEY, Choice(ExecutionPlan(1, 2, 4), {}))
    assert "not recorded" in caplog.text
    assert records.get(KEY) is None
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        PlanRecords(None).put(KEY, Choice(ExecutionPlan(1, 2, 4), {}))
        assert PlanRecords(None).get(KEY) is None
    assert not caplog.records


def test_the_processor_is_named_by_the_kernel_where_it_names_it(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: A Processor 3000\nmodel name\t: Another\n")
    assert cpu_name(info) == "A Processor 3000"
    assert cpu_name(tmp_path / "none")


def test_available_memory_is_what_the_tightest_bound_leaves(tmp_path):
    host, groups = tmp_path / "meminfo", tmp_path / "cgroup"
    assert available_bytes(host, groups) is None
    host.write_text("MemTotal:  9000 kB\nMemAvailable:  4000 kB\n")
    groups.mkdir()
    assert available_bytes(host, groups) == 4000 * 1024
    (groups / "memory.max").write_text("max\n")
    (groups / "memory.current").write_text("10\n")
    assert available_bytes(host, groups) == 4000 * 1024
    (groups / "memory.max").write_text("1000\n")
    assert available_bytes(host, groups) == 990
    (groups / "memory.stat").write_text("anon 4\ninactive_file 5\n")
    assert available_bytes(host, groups) == 995
