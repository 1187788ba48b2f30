"""How good a head is on rows that it did not learn from. Pure functions of arrays."""
