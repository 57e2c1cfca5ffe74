"""MLflow's SqlAlchemyStore in a process of its own: a line of JSON in, how long the search took and what it found out.

Run by an interpreter with the full mlflow and psycopg2: `mlflow_search.py DSN`.
"""

import json
import sys
import time


def main() -> None:
    """Make the tables, then answer until the input ends."""
    from mlflow.entities import ViewType
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(sys.argv[1], "/nowhere")  # type: ignore[no-untyped-call, unused-ignore]
    print("READY", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        begun = time.perf_counter()
        page = store.search_runs(
            ["1"], asked["filter"], ViewType.ACTIVE_ONLY, 100, asked["order_by"], asked["token"] or None
        )
        took = time.perf_counter() - begun
        ids = [run.info.run_id for run in page]
        token = page.token.decode() if isinstance(page.token, bytes) else page.token or ""
        print("TOLD" + json.dumps({"took": took, "ids": ids, "token": token}), flush=True)


if __name__ == "__main__":
    main()
