"""MLflow's REST API as a table of cases: what each endpoint answers when it works and to each mistake.

The rows (``areas/``) say what MLflow does, and are held against a genuine ``mlflow server`` (``test_genuine.py``). The same
rows are held against our gateway (``test_gateway.py``). Where it differs on purpose a row says how and why (``ours=``).
"""
