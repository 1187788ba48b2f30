"""The arithmetic of fitting: all penalties and folds of a sweep solved together."""
