"""The watcher: states which runs are lost, and which are back. ``silence.py`` first."""
