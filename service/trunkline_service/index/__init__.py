"""Indexes: FAISS over one version of a collection; always rebuildable from it."""
