"""One frozen dataclass per event type; the Avro file of the same name is its contract."""
