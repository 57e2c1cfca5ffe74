"""The PostgreSQL projection: operational state, what *is*.

Start reading at ``projection.py``: one transaction per batch. ``folding.py`` turns events into rows and changes through
the tables of handlers in ``fold_*.py``; ``metrics.py`` folds points with NumPy; every statement stands in ``sql/``.
"""
