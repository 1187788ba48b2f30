"""Choosing a backbone: the same head on the same folds over several models."""
