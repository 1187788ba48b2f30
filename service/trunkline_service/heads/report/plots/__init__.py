"""Plots as SVG: pure functions of numbers. Colours come from the page's style sheet, by class."""
