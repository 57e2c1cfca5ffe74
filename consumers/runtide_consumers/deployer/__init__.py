"""The deployer: subscribes to the catalogue, keeps wanted beside actual per endpoint, and reconciles the two.

Start reading at ``state.py`` (what the log says), then ``plan.py`` (what to do next, a pure function), ``executor.py``
(doing it, each step a fact), ``reconciler.py`` (the loop) and ``target.py`` (what a place to deploy to has to do).
"""
