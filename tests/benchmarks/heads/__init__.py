"""Heads beside scikit-learn: one Markdown table of ratios, from one command.

    python -m tests.benchmarks.heads [--quick] [--only solving|ridge|serving] [--flowers DATA] [--json FILE]

Solving: 10 values of C x 5 folds, multinomial, in float32; ours all together, scikit-learn's one after the other, on
the same rows, folds, values and cores. Above the first shape scikit-learn solves one fold, and its time counts five
times. No problem may end with a loss above scikit-learn's by more than 1e-5 of it. ``--flowers`` names a data folder
whose collection `flowers` stands in for the first shape's made-up rows.
"""
