"""Runtide SDK."""
