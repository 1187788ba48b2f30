"""Built indexes in a data folder or an object store: written once, checksummed, cached, always rebuildable."""
