"""``python -m runtide_schemas.release``: keep the present schemas as released versions.

A schema that is new or has changed gets the next number of its type, if every version can read every other
(FULL_TRANSITIVE); a change that does not alter the encoding (documentation, aliases) goes into the version's file. Run it
in a checkout, by way of ``make release-schemas``, which also adds what the tests need.
"""

import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from runtide_schemas import released
from runtide_schemas.compatibility import full_problems
from runtide_schemas.registry import EVENT_TYPES, published_schema, schema_fingerprint
from runtide_schemas.released import Release, releases, releases_of
from runtide_schemas.soundness import UnsoundSchema, sound_schema

COMMAND = "make release-schemas"


def main() -> int:
    """Write what is missing; return 1 and say why when a schema must not be released."""
    problems = {name: found for name in sorted(EVENT_TYPES) if (found := list(release_problems(name)))}
    for name, found in problems.items():
        sys.stderr.write("\n  ".join((f"{name} must not be released as it is:", *found)) + "\n")
    if problems:
        return 1
    for name in sorted(EVENT_TYPES):
        release = present_release(name)
        path = Path(str(released.FOLDER)) / release.file
        if not path.exists() or path.read_text(encoding="utf-8") != source_text(name):
            path.write_text(source_text(name), encoding="utf-8")
            sys.stdout.write(f"released {name}, {release}\n")
    releases.cache_clear()
    return 0


def release_problems(name: str) -> Iterator[str]:
    """Yield why the present schema of a type must not be released."""
    schema, release = published_schema(name), present_release(name)
    try:
        sound_schema(schema)
    except UnsoundSchema as error:
        yield str(error)
        return
    yield from full_problems(schema, {str(earlier): earlier.schema() for earlier in releases_of(name)})
    if release in releases_of(name):
        yield from _changed_defaults(schema, release.schema())


def present_release(name: str) -> Release:
    """Return the release that the present schema of a type is, or would be."""
    fingerprint = schema_fingerprint(name)
    known = {release.fingerprint: release for release in releases_of(name)}
    return known.get(fingerprint) or Release(name, len(known) + 1, fingerprint)


def source_text(name: str) -> str:
    """Return the text of a type's ``.avsc`` file."""
    return files("runtide_schemas").joinpath("avro", f"{name}.avsc").read_text(encoding="utf-8")


def _changed_defaults(schema: dict[str, Any], earlier: dict[str, Any]) -> Iterator[str]:
    """A fingerprint does not cover defaults, yet old events would change their meaning with them."""
    defaults = {field["name"]: field.get("default") for field in earlier["fields"]}
    for field in schema["fields"]:
        if field.get("default") != defaults[field["name"]]:
            yield f".{field['name']} had the default {defaults[field['name']]!r} when it was released; a default never changes"


if __name__ == "__main__":
    sys.exit(main())
