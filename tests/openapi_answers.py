"""Answers held against the API's description."""

import copy
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator


class Described:
    """A description, by which answers are judged; ``strict``: what is not described may not be answered either."""

    def __init__(self, description: Mapping[str, Any], *, strict: bool = True) -> None:
        self.paths: Mapping[str, Mapping[str, Any]] = description["paths"]
        self._components = copy.deepcopy(description["components"])
        if strict:
            for schema in self._components["schemas"].values():
                if "properties" in schema:
                    schema.setdefault("additionalProperties", False)

    def faults(self, method: str, path: str, status: int, media: str, body: Any) -> list[str]:
        """Return what is wrong with an answer to a described call; nothing for one that is as it should be."""
        answers = self.paths[path][method.lower()]["responses"]
        answer = answers.get(str(status), answers["default"] if status >= 300 else None)
        if answer is None:
            return [f"status {status} is not described"]
        if "$ref" in answer:
            answer = self._components["responses"][answer["$ref"].rpartition("/")[2]]
        if not media and "content" not in answer:
            return []
        told = answer.get("content", {}).get(media.partition(";")[0])
        if told is None:
            return [f"{media} is not described for status {status}"]
        if not media.startswith("application/json"):
            return []
        schema = {**told.get("schema", {}), "components": self._components}
        return [f"{error.json_path}: {error.message[:300]}" for error in Draft202012Validator(schema).iter_errors(body)]
