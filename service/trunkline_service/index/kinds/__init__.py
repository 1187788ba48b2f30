"""Approximate structures of FAISS behind one interface: built, written, read, searched."""
