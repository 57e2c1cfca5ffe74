"""The routes of ``/api/runtide/v1``, one module and one table per subject."""

API = "/api/runtide/v1"
