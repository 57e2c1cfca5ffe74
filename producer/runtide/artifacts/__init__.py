"""Files of a run: checked paths, stored through fsspec with their SHA-256. Start reading at ``store.py``."""
