"""``python -m runtide.schema_registry``: register every version of every event type, and set their compatibility.

For those whose training jobs and services may only look schemas up (``RUNTIDE_SCHEMA_REGISTRY_REGISTER_SCHEMAS=false``).
"""

import asyncio
import sys

from runtide.schema_registry.registry import SchemaRegistry
from runtide.schema_registry.settings import SchemaRegistrySettings
from runtide_schemas.errors import RuntideError


def main() -> int:
    """Register, and return the exit code."""
    settings = SchemaRegistrySettings()
    try:
        registry = SchemaRegistry(settings)
        if not registry.configured:
            sys.stderr.write("RUNTIDE_SCHEMA_REGISTRY_URL is not set\n")
            return 2
        count = asyncio.run(registry.register_all())
    except RuntideError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{settings.url} has all {count} schemas\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
