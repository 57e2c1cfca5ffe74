"""The whole stack on one machine: a real PostgreSQL and a supervisor for every process of the stack.

Start reading at `postgres.py` (one private cluster: its files, roles and command line) and `supervisor.py`
(a table of child processes kept alive). Neither knows the other; whoever composes the stack knows both.
"""
