"""Consumer groups by Kafka's classic protocol.

``coordinator`` answers the requests, ``group`` is the state machine of one group, ``offsets`` the durable store of
committed offsets. Membership is not durable: after a restart members join anew, their offsets are there.
"""
