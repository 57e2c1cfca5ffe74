"""The schema registry, as an option: ids for what is published, schemas for the ids that are read.

``registry.py`` is where to start; ``rest.py`` knows the REST contract that Confluent's registry, Karapace and Apicurio Registry
share, ``exchange.py`` one HTTP request. The HTTP client is our own sixty lines over asyncio's streams: a training client must
stay small and import quickly, and its events are also sent while the interpreter exits, when no thread can be started and
executors refuse work.
"""

from runtide.schema_registry.registry import SchemaRegistry, registry_for
from runtide.schema_registry.settings import SchemaRegistrySettings

__all__ = ["SchemaRegistry", "SchemaRegistrySettings", "registry_for"]
