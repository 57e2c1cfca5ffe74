"""Folding a store anew beside the live one, and putting the new one in its place.

Start reading at ``procedure.py``: the steps, the same for every store. ``store.py`` says what a store has to offer for it
(``postgres/rebuild.py`` and ``duckdb/rebuild.py`` do), ``comparison.py`` finds the entities of which two stores say
different things, ``folding.py`` folds to exactly given positions.
"""
