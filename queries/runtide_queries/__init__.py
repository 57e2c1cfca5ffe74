"""Read models and the gateway. Start reading at ``runs.py``; the map is in ``queries/README.md``."""
