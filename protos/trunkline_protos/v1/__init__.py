"""trunkline.v1."""
