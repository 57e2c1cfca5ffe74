"""MLflow writes to the log: ``mlflow.set_tracking_uri("runtide://")``, with no server in the path of writes.

MLflow finds the stores through its entry points; nothing else in ``runtide`` imports this package, and it alone imports
``mlflow``. Writes go into the SDK's spool and are shipped by its publisher. Reads of runs that this process writes to are
answered from its memory, all others by the gateway. Start reading at ``tracking_store.py``.
"""
