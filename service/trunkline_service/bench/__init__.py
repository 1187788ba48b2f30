"""A load tester: callers in a closed loop or arrivals at a rate, against a live server; and the raw ceiling."""
