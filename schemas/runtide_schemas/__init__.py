"""The contract: event types, codec, topics and error kinds. Imports nothing of ours."""
