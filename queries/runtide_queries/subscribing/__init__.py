"""Events for whoever subscribes over HTTP: a topic read on for ever, told where each event leaves the reader.

``places.py`` says where to begin, ``feed.py`` reads, ``outbox.py`` holds what a client has not taken yet, ``subscriptions.py`` writes
it as server-sent events and bounds how many there are.
"""

from runtide_queries.subscribing.feed import Feed, Wanted
from runtide_queries.subscribing.subscriptions import Bounds, Stream, Subscriptions

__all__ = ["Bounds", "Feed", "Stream", "Subscriptions", "Wanted"]
