"""The main job as a demonstration: train three models at once, register the best, see it served, compare.

``train.py`` is an ordinary training script over ``import runtide``; ``steps.py`` is the job around it.
"""
