"""The artifacts that the gateway keeps for its clients: below one root, a local folder or anywhere fsspec reaches.

Start reading at ``tree.py``: what a root can do. ``local_tree.py`` and ``object_tree.py`` are the two kinds of it.
"""

from runtide_queries.artifacts.multipart import Stored
from runtide_queries.artifacts.storage import ArtifactStorage, OpenArtifact, Storing, Upload

__all__ = ["ArtifactStorage", "OpenArtifact", "Stored", "Storing", "Upload"]
