"""Spools on their way to the broker: one background thread per process and broker address.

Start reading at ``publisher.py``; ``shipment.py`` is one spool's part, ``runtide.delivery`` the records in flight.
"""
