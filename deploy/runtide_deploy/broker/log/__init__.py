"""The log on disk: Kafka's own record batches in segment files.

Start reading at ``partition_log``; ``batch`` knows the 61-byte header, ``segment`` one file, ``recovery`` what happens
on opening, ``producers`` idempotence, ``group_commit`` when a write counts as stored.
"""
