"""Building an index aside: one scan of the collection, one structure, one publication."""
