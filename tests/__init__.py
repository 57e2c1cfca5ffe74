"""Tests: unit (one module), conformance (a contract), integration (real servers), acceptance (the whole)."""
