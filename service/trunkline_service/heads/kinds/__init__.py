"""The kinds of heads, a file each: a function from a training set to a fitted head."""
