"""Runs: what users call. Start reading at ``run.py``; ``writer.py`` is one process's part in a run."""
