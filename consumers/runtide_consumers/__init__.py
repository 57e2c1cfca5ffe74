"""Consumers of the log."""
