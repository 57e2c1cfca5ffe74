"""Delivers what the catalogue has to tell to the webhooks that ask for it, at least once each.

Start at ``subscribers.py``: which facts are for whom. ``ledger.py`` keeps how far each webhook has come, ``delivering.py`` sends.
"""
