"""The durable queue on disk: what was logged is here until the broker has acknowledged it.

One directory per writer, ``<spool>/<run id>/<writer id>/`` (mode 0700):

| file | holds |
|---|---|
| ``writer.json`` | manifest: format, run, writer, process (pid, start time, boot id), host, client, the lock's inode |
| ``lock`` | flock held by the owner for as long as it lives |
| ``points-000001.tail`` | metric points as they are logged: a mapped file of 32-byte records (``tail.py``) |
| ``keys`` | names of the metric keys that the records refer to by number |
| ``<topic>-<first seq>.avro`` | events, numbered: Avro object container files that any Avro tool reads (``segment.py``) |
| ``acked`` | per topic the first sequence number that the broker has not acknowledged |
| ``state`` | what the owner tells others: per topic the number after the last event that is durable, and how delivery is |
| ``followed`` | of those who send it while its owner lives: the log, and what that has (``following.py``) |

Not part of it: ``writer.sent.json`` marks a spool that is delivered and being deleted, ``*.unfinished`` are files in
the making, and ``<writer id>.torn/`` beside it keeps what a power cut left of events that nobody counts on.
``<spool>/imports/`` is what importers note and where they make spools (``prepared.py``, ``runtide/importing/ledger.py``).

What survives which failure, and why: ``durability.py``. Start reading at ``writer_spool.py``: ``WriterSpool`` owns all of these.
"""
