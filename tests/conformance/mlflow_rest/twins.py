"""Two servers that are asked the same: ours and a genuine one. What they answer is compared with ids and times taken out."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.conformance.mlflow_rest.case import Call
from tests.conformance.mlflow_rest.server import Answer, Server

_PLACE = re.compile(r"<(\w+)>")
_NOW = 1_600_000_000_000
"""No time that a call of ours gives is as late as this."""
_OF_ONE_SERVER = frozenset({"workspace", "sqlstate", "error_class"})
_LISTS_OF_VERSIONS, _OF_OURS = frozenset({"latest_versions", "model_versions"}), frozenset({"aliases"})
"""Where MLflow leaves a version's aliases out, which it tells of one version alone; we tell them wherever one is."""
_INVALID_STATE = "INVALID_STATE"


class Twins:
    """The two, and what each calls an entity: in calls ``<name>`` stands for its id, which is another one on each."""

    def __init__(self, genuine: Server, ours: Server) -> None:
        """Nothing is asked yet."""
        self._sides = (_Side(genuine), _Side(ours))
        self.said: list[str] = []
        """Every call with what both answered, the last one last."""

    def ask(self, asked: Call, *, ordered: bool = True) -> Any:
        """Ask both; return what ours answered, None where both refused.

        ``ordered``: whether the answer's lists of entities have an order.

        Raises:
            AssertionError: they answered differently; with all calls so far.
        """
        answers = [side.ask(asked) for side in self._sides]
        works = all(answer.status < 300 for answer in answers)
        if works:
            for side, answer in zip(self._sides, answers, strict=True):
                side.save(asked.saves, answer)
        wanted, found = (side.comparable(answer, ordered) for side, answer in zip(self._sides, answers, strict=True))
        self.said.append(f"{asked.verb} {asked.path} {asked.payload}\n    {found}")
        assert found == wanted, "\n".join([*self.said[-40:], f"    but MLflow: {wanted}"])
        return answers[1].json if works else None


class _Side:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._ids: dict[str, str] = {}

    def ask(self, asked: Call) -> Answer:
        return self._server.send(replace(asked, path=self._filled(asked.path), payload=self._filled(asked.payload)))

    def save(self, wanted: Mapping[str, str], answer: Answer) -> None:
        for name, path in wanted.items():
            value = answer.json
            for key in path.split("."):
                value = value[key]
            self._ids[name] = str(value)

    def comparable(self, answer: Answer, ordered: bool) -> Any:
        """Return status and body; of an error only its code: texts of SQL are not ours to have."""
        told = answer.json if isinstance(answer.json, dict) else {}
        if answer.status >= 300:
            code = told.get("error_code")
            return (400 if code == _INVALID_STATE else answer.status), code
        return answer.status, self._masked(told, "", ordered)

    def _filled(self, value: Any) -> Any:
        if isinstance(value, str):
            return _PLACE.sub(lambda place: self._ids[place[1]], value)
        if isinstance(value, dict):
            return {key: self._filled(item) for key, item in value.items()}
        return [self._filled(item) for item in value] if isinstance(value, list) else value

    def _masked(self, value: Any, key: str, ordered: bool) -> Any:
        if isinstance(value, dict):
            unlike = _OF_ONE_SERVER | (_OF_OURS if key in _LISTS_OF_VERSIONS else frozenset())
            return {name: self._masked(item, name, ordered) for name, item in value.items() if name not in unlike}
        if isinstance(value, list):
            masked = [self._masked(item, key, ordered) for item in value]
            return _in_order(masked, ordered and key != "latest_versions")
        if isinstance(value, int) and value > _NOW:
            return "a time"
        return self._masked_text(value, key) if isinstance(value, str) else value

    def _masked_text(self, text: str, key: str) -> str:
        if key in {"experiment_id", "next_page_token"}:
            return "its own"
        for name, identifier in self._ids.items():
            if len(identifier) >= 32:
                text = text.replace(identifier, f"<{name}>")
        return re.sub(r"mlflow-artifacts:/\d+", "mlflow-artifacts:/N", text)


def _in_order(items: list[Any], ordered: bool) -> list[Any]:
    """Return items in an order that does not depend on the server: pairs and aliases have none, points of one metric do.

    Nor have a model's latest versions one in MLflow: two of its calls give them in two orders.
    """
    if items and all(isinstance(item, dict) and "key" in item for item in items):
        return sorted(items, key=lambda item: str(item["key"]))
    is_named = all(isinstance(item, str) or (isinstance(item, dict) and "alias" in item) for item in items)
    return items if ordered and not is_named else sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
