"""Webhooks: create, get, list, update, delete. All are disabled: none of them is ever sent to."""

import re
from typing import Any

from tests.conformance.mlflow_rest.case import Case, bad, call, missing, ok, wrong_type
from tests.conformance.mlflow_rest.entities import A_TIME, EMPTY
from tests.conformance.mlflow_rest.shapes import Maybe, with_others

CREATE, LIST = "POST webhooks", "GET webhooks"
EVENT = {"entity": "REGISTERED_MODEL", "action": "CREATED"}
NAMED = {"name": "$name", "url": "https://1.1.1.1/hook", "events": [EVENT], "status": "DISABLED"}
SHOWN = {
    "webhook_id": re.compile("^[0-9a-f-]{32,36}$"),
    "name": "$name",
    "url": "https://1.1.1.1/hook",
    "events": [EVENT],
    "status": "DISABLED",
    "creation_timestamp": A_TIME,
    "last_updated_timestamp": A_TIME,
    "description": Maybe(""),
}
UNKNOWN = "webhooks/00000000-0000-4000-8000-000000000000"
NO_WEBHOOK: dict[str, Any] = {
    "message": "(?i)webhook.*not found|not found",
    "error": "RESOURCE_DOES_NOT_EXIST",
    "status": 404,
}
_MADE = call(CREATE, NAMED, saves={"hook": "webhook.webhook_id"})


def shown(**fields: Any) -> dict[str, Any]:
    """Return the shape of the answer with one webhook."""
    return {"webhook": SHOWN | fields}


CASES: tuple[Case, ...] = (
    ok(
        "what it needs",
        CREATE,
        NAMED,
        shown(),
        saves={"hook": "webhook.webhook_id"},
        then=(call("GET webhooks/$hook", wanted=shown(webhook_id="$hook")),),
    ),
    ok(
        "a secret is never shown",
        CREATE,
        NAMED | {"secret": "hush", "description": "it says"},
        shown(description="it says"),
    ),
    ok(
        "several events",
        CREATE,
        NAMED | {"events": [EVENT, {"entity": "MODEL_VERSION_ALIAS", "action": "DELETED"}]},
        shown(events=list),
    ),
    *(missing(CREATE, NAMED, parameter) for parameter in ("name", "url")),
    wrong_type(CREATE, NAMED, "name", 5, "5"),
    wrong_type(CREATE, NAMED, "events", "x", '"x"'),
    bad("no event", CREATE, NAMED | {"events": []}, "(?i)event"),
    bad(
        "an action that the entity does not have",
        CREATE,
        NAMED | {"events": [{"entity": "REGISTERED_MODEL", "action": "DELETED"}]},
        "(?i)Invalid|Unknown",
    ),
    *(
        bad(f"the name {name!r}", CREATE, NAMED | {"name": name}, "Webhook name .* is invalid")
        for name in ("a b", "-a", "a-", "x" * 64, "a/b")
    ),
    *(
        bad(f"the address {url!r}", CREATE, NAMED | {"url": url}, "(?i)url")
        for url in (
            "http://1.1.1.1/x",
            "https://",
            "ftp://1.1.1.1",
            " ",
            "https://127.0.0.1/x",
            "https://10.0.0.1/x",
            "https://[::1]/x",
            "https://169.254.169.254/x",
        )
    ),
    ok("one", "GET webhooks/$hook", None, shown(webhook_id="$hook"), before=(_MADE,)),
    bad("an unknown one", f"GET {UNKNOWN}", None, **NO_WEBHOOK),
    ok("all", LIST, {"max_results": 1000}, with_others({"webhooks": list}), before=(_MADE,)),
    ok(
        "a page of them",
        LIST,
        {"max_results": 1},
        {"webhooks": [dict], "next_page_token": str},
        before=(_MADE, call(CREATE, NAMED | {"name": "x-$name"})),
    ),
    bad(
        "a size that is no number",
        LIST,
        {"max_results": "few"},
        "Invalid value \"few\" for parameter 'max_results' supplied",
    ),
    ok(
        "another name",
        "PATCH webhooks/$hook",
        {"name": "other-$name"},
        shown(name="other-$name"),
        before=(_MADE,),
        then=(call("GET webhooks/$hook", wanted=shown(name="other-$name")),),
    ),
    ok(
        "other events",
        "PATCH webhooks/$hook",
        {"events": [{"entity": "MODEL_VERSION", "action": "CREATED"}]},
        shown(events=[{"entity": "MODEL_VERSION", "action": "CREATED"}]),
        before=(_MADE,),
    ),
    bad("another address within", "PATCH webhooks/$hook", {"url": "https://127.0.0.1/x"}, "(?i)url", before=(_MADE,)),
    bad("an unknown one", f"PATCH {UNKNOWN}", {"name": "x"}, **NO_WEBHOOK),
    ok("one that is there", "DELETE webhooks/$hook", None, EMPTY, before=(_MADE,)),
    bad(
        "a deleted one is unknown",
        "GET webhooks/$hook",
        None,
        before=(_MADE, call("DELETE webhooks/$hook")),
        **NO_WEBHOOK,
    ),
    bad("an unknown one", f"DELETE {UNKNOWN}", None, **NO_WEBHOOK),
)
