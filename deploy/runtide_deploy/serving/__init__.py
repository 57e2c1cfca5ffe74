"""The scoring server: one model directory behind MLflow's scoring protocol.

`python -m runtide_deploy.serving --model-dir DIR`. Start reading at `app.py` (the routes) and `payloads.py` (what a
request may say, and its limits).
"""
