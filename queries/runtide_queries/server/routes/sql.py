"""A user's SQL over history, run in the sandbox."""

import asyncio

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from runtide_queries.sandbox import MAX_SQL_LENGTH, read_table
from runtide_queries.server.answers import Json
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.routes import API
from runtide_queries.server.shapes import Rows
from runtide_queries.server.stores import AskStores

ARROW = "application/vnd.apache.arrow.stream"


class Statement(BaseModel):
    """The body of POST /sql."""

    sql: str = Field(max_length=MAX_SQL_LENGTH, description="One SELECT, EXPLAIN, DESCRIBE or SHOW statement.")


async def run_sql(request: Request, stores: AskStores, statement: Statement) -> Response:
    """Run one statement over a snapshot of the history, as JSON or (by Accept) as an Arrow stream."""
    snapshot = await stores.history.snapshot()
    result = await stores.sandbox.run(statement.sql, snapshot.path)
    if ARROW in request.headers.get("accept", ""):
        return Response(result.arrow, media_type=ARROW, headers={"X-Runtide-Truncated": str(result.truncated).lower()})
    table = await asyncio.to_thread(read_table, result.arrow)
    answer = {
        "columns": table.columns,
        "types": table.types,
        "rows": table.rows,
        "truncated": result.truncated,
        "seconds": round(result.seconds, 4),
    }
    return await asyncio.to_thread(Json, answer)


ROUTES = (Route("POST", f"{API}/sql", run_sql, Policy.READ, "Run SQL over history", answer=Rows, media=ARROW),)
