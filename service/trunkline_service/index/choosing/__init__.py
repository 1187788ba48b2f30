"""Which kind of index, with which settings: by what is measured."""
