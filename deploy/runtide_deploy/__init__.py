"""Deployment targets, serving, the embedded broker, the standalone stack and the CLI."""
