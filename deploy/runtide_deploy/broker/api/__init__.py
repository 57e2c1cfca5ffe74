"""One file per Kafka API; each declares at its top which versions it serves. ``table`` lists them all."""
