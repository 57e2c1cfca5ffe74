"""What users of MLflow do, as scenarios: plain functions that ask MLflow's client and check its answers.

A module is run by an interpreter that has mlflow and nothing of ours (``run.py``), with ``MLFLOW_TRACKING_URI`` set. Every public
function of a module is a scenario; it makes its own experiments and models, so that a server may be shared. They hold of a
genuine MLflow server: ``test_mlflow_client.py`` asks both.
"""
