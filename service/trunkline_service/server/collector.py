"""Python's cyclic garbage collector in a process that serves."""

from __future__ import annotations

import gc

# Calls make few cycles. With the default of 700 new objects the collector runs several times in every call.
_NEW_OBJECTS = 50_000


def settle_collector() -> None:
    """To be called once everything is loaded: what is there now is not looked through again.

    Modules, models and generated code are hundreds of thousands of objects that live as long as the process;
    looking through them took a twentieth of a small call's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
