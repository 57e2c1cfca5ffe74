"""One file per Kafka API, loaded when a client first uses it. ``table`` says which versions of which are served."""
