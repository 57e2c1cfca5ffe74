"""How large a request body may be: the route says so, before anybody reads it."""

from collections.abc import Callable, Iterable

from starlette.routing import compile_path
from starlette.types import Scope

from runtide_queries.server.policy import Route


def body_limits(routes: Iterable[Route], default: int) -> Callable[[Scope], int]:
    """Return what tells a request's limit in bytes: its route's, else ``default``."""
    own = [(route.method, route.path, route.most_body_bytes) for route in routes if route.most_body_bytes is not None]
    plain = {(method, path): most for method, path, most in own if "{" not in path}
    patterns = [(method, compile_path(path)[0], most) for method, path, most in own if "{" in path]

    def limit_of(scope: Scope) -> int:
        method, path = scope["method"], scope["path"]
        if (most := plain.get((method, path))) is not None:
            return most
        return next((most for verb, pattern, most in patterns if verb == method and pattern.match(path)), default)

    return limit_of
