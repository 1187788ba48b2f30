"""Markup is escaped by construction; plots are well-formed."""

from __future__ import annotations

import itertools
import math
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.heads.evaluation.learning_curve import CurvePoint, LearningCurve
from trunkline_service.heads.evaluation.power_law import PowerLaw
from trunkline_service.heads.report.markup import Markup, join, tag
from trunkline_service.heads.report.parts import Pairs, Reliability, Scores
from trunkline_service.heads.report.plots.bars import Bar, bars_plot
from trunkline_service.heads.report.plots.confusion import confusion_plot
from trunkline_service.heads.report.plots.curve import curve_plot
from trunkline_service.heads.report.plots.frame import ticks_between
from trunkline_service.heads.report.plots.lines import lines_plot
from trunkline_service.heads.report.plots.pairs import pairs_plot
from trunkline_service.heads.report.plots.reliability import reliability_plot
from trunkline_service.heads.report.plots.scores import scores_plot

# What HTML keeps as it is: no NUL, no carriage return, no lone surrogates.
text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\0"))


class Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.attributes = [], [], {}

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data):
        self.texts.append(data)


@given(text, text)
def test_any_text_stays_text(content, attribute):
    reader = Reader()
    reader.feed(tag("p", content, title=attribute))
    reader.close()
    assert reader.tags == ["p"]
    assert "".join(reader.texts) == content
    assert reader.attributes == {"title": attribute}


def test_elements_by_hand():
    assert tag("br") == "<br>"
    assert tag("input", type="text", hidden=True, list=None, checked=False) == '<input type="text" hidden>'
    assert tag("label", "a", class_="x", aria_label="b<c", data_value=1.5) == (
        '<label class="x" aria-label="b&lt;c" data-value="1.5">a</label>'
    )
    assert tag("p", ["a", None, tag("b", "c")], Markup("&amp;")) == "<p>a<b>c</b>&amp;</p>"
    assert join("<", tag("i")) == "&lt;<i></i>"
    assert tag("rect", name="n", x=1.0, y=2.345678) == '<rect name="n" x="1" y="2.35"></rect>'


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(3, 8))
def test_ticks_are_few_round_and_inside(low, width, most):
    high = low + width
    ticks = ticks_between(low, high, most)
    assert 1 <= len(ticks) <= most + 1
    assert all(low - 1e-6 * width <= tick <= high + 1e-6 * width for tick in ticks)
    steps = {float(f"{b - a:.6g}") for a, b in itertools.pairwise(ticks)}
    assert len(steps) <= 1
    if steps:
        step = steps.pop()
        assert float(f"{step / 10 ** math.floor(math.log10(step)):.3g}") in (1, 2, 5)


NAMES = ["<b>", 'a "long" name of a class that is cut', "c & d"]
BINS = Reliability((0.0, 10.0, 30.0), (0.0, 0.5, 0.9), (0.0, 0.4, 1.0))
CURVE = LearningCurve(
    "accuracy",
    (
        CurvePoint(100.0, 0.7, (0.65, 0.75)),
        CurvePoint(200.0, 0.8, (0.75, 0.85)),
        CurvePoint(20000.0, 0.9, (0.88, 0.92)),
    ),
    PowerLaw(0.05, 2.0, 0.5),
    0.01,
    (0.005, 0.02),
    "gain",
)
PLOTS = {
    "reliability": lambda: reliability_plot(BINS, BINS),
    "reliability alone": lambda: reliability_plot(BINS, None),
    "curve": lambda: curve_plot(CURVE),
    "curve without a law": lambda: curve_plot(
        LearningCurve("R2", CURVE.points[:1], None, None, None, "unclear")
    ),
    "confusion": lambda: confusion_plot([[9, 1, 0], [0, 0, 0], [2, 0, 5]], NAMES),
    "losses": lambda: lines_plot({"loss": (2.0, 1.0, 0.5), "validation_loss": (2.1, 1.2, 0.9)}),
    "one epoch": lambda: lines_plot({"loss": (2.0,)}),
    "pairs": lambda: pairs_plot(Pairs("<mm>", (1.0, 2.0), (1.5, 1.5))),
    "equal pairs": lambda: pairs_plot(Pairs("mm", (1.0, 1.0), (1.0, 1.0))),
    "scores": lambda: scores_plot(Scores((0.0, 1.0, 2.0), (3.0, 1.0), (0.0, 0.0))),
    "bars": lambda: bars_plot(
        [Bar("<b>", 1.2, "120%", (-0.1, 2.0), own=True), Bar("b", -1.0, "-1", None, own=False)]
    ),
}


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_well_formed_and_inside_their_frame(name):
    drawing = ElementTree.fromstring(PLOTS[name]())
    assert not {element.tag for element in drawing.iter()} & {"b", "mm", "script"}
    for element in drawing.iter("svg"):
        _, _, width, height = map(float, element.attrib["viewBox"].split())
        for part in element.iter("rect"):
            x, y = float(part.get("x", 0)), float(part.get("y", 0))
            assert -1e-9 <= x <= x + float(part.attrib["width"]) <= width + 0.01
            assert -1e-9 <= y <= y + float(part.attrib["height"]) <= height + 0.01
        for dot in element.iter("circle"):
            assert 0 <= float(dot.attrib["cx"]) <= width
            assert 0 <= float(dot.attrib["cy"]) <= height
    labelled = drawing.attrib.get("aria-label") or drawing.tag == "ul"
    assert labelled


def test_the_confusion_is_written_out_for_few_classes():
    drawing = ElementTree.fromstring(PLOTS["confusion"]())
    titles = {element.text for element in drawing.iter("title")}
    assert "<b> recognised: 9 of 10 (90.0%)" in titles
    assert "c & d taken for <b>: 2 of 7 (28.6%)" in titles
