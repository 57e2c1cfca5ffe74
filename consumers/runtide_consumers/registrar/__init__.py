"""The registrar: the one process that decides about the catalogue, in the order of the log.

Start reading at ``deciding.py``: ``decide(state, request) -> fact`` and its table of functions. ``folding.py`` holds
``apply(state, fact)``; ``service.py`` connects both to the log. The state is nothing but a fold of runtide.catalog.
"""
