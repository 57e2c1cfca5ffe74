"""Giving deleted runs up for good: which ones (``candidates.py``), their files (``files.py``), the job itself (``job.py``)."""
