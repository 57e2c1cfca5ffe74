"""Closed ranges of the log kept as Avro files, and read again as the log's beginning.

Start reading at ``manifest.py``: what an archive consists of, and how it is known to be whole. ``writing.py`` adds to one,
``verifying.py`` reads all of one back, ``deleting.py`` gives the log's room back, ``reading.py`` is what
``log_reader.py`` reads where the log has no beginning any more.
"""
