"""Spools on their way to the log: one background thread per process and destination.

Start reading at ``publisher.py``; ``shipment.py`` is one spool's part, a ``Window`` (``transport.py``) the records in flight: ``runtide.delivery`` over Kafka,
``runtide.gateway.window`` over HTTP.
"""
