"""The DuckDB projection: full history and the entities beside it, in one file owned by one process.

Start reading at ``projection.py`` (what a batch does), then ``points.py`` (metric columns), ``rows.py`` and the
``fold_*.py`` modules (entities), ``owner.py`` (the thread that owns the file), ``queries.py``, ``snapshots.py`` and
``server.py`` (what others may ask of it).
"""
