"""Callbacks for the frameworks that people train with: each module is one framework, which only it imports.

``from runtide.integrations.xgboost import RuntideCallback`` and alike. Which run they log to, and that nothing of theirs
disturbs a training, stands in ``training_run.py``; how names become legal, in ``metric_names.py``.
"""
