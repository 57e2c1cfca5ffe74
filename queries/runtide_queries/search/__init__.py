"""Search for runs. Read in this order: ``grammar.py`` (text to clauses), ``fields.py`` (what can be asked of what, one row
each), ``compile.py`` (one parameterised statement), ``runs.py`` (the question and its pages)."""

from runtide_queries.search.runs import RunPage, RunSearch, search_runs

__all__ = ["RunPage", "RunSearch", "search_runs"]
