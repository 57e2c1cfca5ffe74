"""Read models and the gateway."""
