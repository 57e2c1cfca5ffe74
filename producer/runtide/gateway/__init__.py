"""The gateway as a training job uses it, where it cannot reach Kafka: events, requests and files over HTTP."""
