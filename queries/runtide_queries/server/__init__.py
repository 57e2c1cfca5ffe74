"""The gateway: reads as JSON under ``/api/runtide/v1`` and as plain pages, over HTTP.

Start reading at ``app.py`` (what is put together), then ``routes/`` (one table of routes per subject; each route declares its
policy) and ``safety.py`` (what every request passes first). ``python -m runtide_queries.server`` runs it.
"""
