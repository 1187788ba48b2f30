"""Everything but the calls themselves: inputs to requests, replies to results, statuses to exceptions.

`Client` and `AsyncClient` are thin shells over this package, so that what one does the other does.
Nothing here calls, sleeps or starts a thread; `items` alone reads files.
"""
