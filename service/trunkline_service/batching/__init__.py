"""From admitted images to vectors: admission, decode pool, lanes, greedy batcher, the engine seam."""
