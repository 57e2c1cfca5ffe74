"""Artifacts: the proxied store (put, get, list, delete, ranges, paths that lead elsewhere) and the lists of runs."""

from typing import Any

from tests.conformance.mlflow_rest.case import Call, Case, bad, call, differs, missing, ok
from tests.conformance.mlflow_rest.entities import EMPTY, UNKNOWN_RUN
from tests.conformance.mlflow_rest.shapes import Maybe, Unordered, with_others

ROOT, LIST = "/api/2.0/mlflow-artifacts/artifacts", "GET artifacts/list"
OF_RUN = f"{ROOT}/$experiment/$new_run/artifacts"
FOLDER = "$experiment/$new_run/artifacts"
GET_RUN = "GET /get-artifact"
MISSING: dict[str, Any] = {
    "message": "(?i)no such artifact|not exist|not found",
    "error": "RESOURCE_DOES_NOT_EXIST",
    "status": 404,
}
PLAIN = {"Content-Type": "text/plain"}


def put(path: str, content: bytes = b"content", **more: Any) -> Call:
    """Return the call that uploads a file to the new run."""
    return call(f"PUT {OF_RUN}/{path}", None, raw=content, headers=PLAIN, **more)


def listed(name: str, size: int | None = None) -> dict[str, Any]:
    """Return a file, or without a size a folder, as lists have it."""
    return {"path": name, "is_dir": size is None, **({} if size is None else {"file_size": size})}


_SOME = (put("a.txt", b"12345"), put("dir/b.txt", b"1"), put("dir/c/d.txt", b"22"))
_PROXY = (
    ok(
        "a file",
        f"PUT {OF_RUN}/a.txt",
        raw=b"hello",
        headers=PLAIN,
        then=(call(f"GET {ROOT}", {"path": FOLDER}, wanted={"files": [listed("a.txt", 5)]}),),
    ),
    ok(
        "an empty file",
        f"PUT {OF_RUN}/a.txt",
        raw=b"",
        headers=PLAIN,
        then=(
            call(
                f"GET {ROOT}",
                {"path": FOLDER},
                wanted={"files": [{"path": "a.txt", "is_dir": False, "file_size": Maybe(0)}]},
            ),
        ),
    ),
    ok(
        "without a content type",
        f"PUT {OF_RUN}/a.bin",
        raw=bytes(range(256)),
        headers={},
        then=(call(f"GET {ROOT}", {"path": FOLDER}, wanted={"files": [listed("a.bin", 256)]}),),
    ),
    ok(
        "over another",
        f"PUT {OF_RUN}/a.txt",
        raw=b"new one",
        headers=PLAIN,
        before=(put("a.txt", b"old"),),
        then=(call(f"GET {ROOT}", {"path": FOLDER}, wanted={"files": [listed("a.txt", 7)]}),),
    ),
    ok(
        "its bytes",
        f"GET {OF_RUN}/a.txt",
        before=_SOME,
        text="12345",
        headers_wanted={"content-disposition": "attachment", "x-content-type-options": "nosniff"},
    ),
    ok(
        "its length and type",
        f"GET {OF_RUN}/a.txt",
        before=_SOME,
        text="12345",
        headers_wanted={"content-length": "^5$", "content-type": "text/plain"},
    ),
    ok(
        "a name with spaces and letters beyond ASCII",
        f"GET {OF_RUN}/d%20e/%C3%A9%2Btxt",
        before=(put("d%20e/%C3%A9%2Btxt", b"x"),),
        text="x",
    ),
    ok(
        "a range",
        f"GET {OF_RUN}/a.txt",
        before=_SOME,
        headers={"Range": "bytes=1-3"},
        status=206,
        text="234",
        headers_wanted={"content-range": "bytes 1-3/5"},
    ),
    ok("a range to the end", f"GET {OF_RUN}/a.txt", before=_SOME, headers={"Range": "bytes=3-"}, status=206, text="45"),
    ok("the last bytes", f"GET {OF_RUN}/a.txt", before=_SOME, headers={"Range": "bytes=-2"}, status=206, text="45"),
    ok(
        "HTML is no page",
        f"GET {OF_RUN}/a.html",
        before=(put("a.html", b"<p>"),),
        text="<p>",
        headers_wanted={"content-disposition": "attachment", "x-content-type-options": "nosniff"},
    ),
    bad("a file that is not there", f"GET {OF_RUN}/none.txt", **MISSING),
    bad("a file below a folder that is not there", f"GET {OF_RUN}/none/none.txt", **MISSING),
    ok(
        "what is in a folder: base names",
        f"GET {ROOT}",
        {"path": FOLDER + "/dir"},
        {"files": [listed("b.txt", 1), listed("c")]},
        before=_SOME,
    ),
    ok(
        "what is in a run",
        f"GET {ROOT}",
        {"path": FOLDER},
        {"files": Unordered((listed("a.txt", 5), listed("dir")))},
        before=_SOME,
    ),
    ok("what is in a folder that is not there", f"GET {ROOT}", {"path": FOLDER + "/none"}, EMPTY),
    ok("what is in a file", f"GET {ROOT}", {"path": FOLDER + "/a.txt"}, EMPTY, before=_SOME),
    ok(
        "a file is deleted",
        f"DELETE {OF_RUN}/a.txt",
        None,
        EMPTY,
        before=_SOME,
        then=(call(f"GET {ROOT}", {"path": FOLDER}, wanted={"files": [listed("dir")]}),),
    ),
    ok(
        "a folder is deleted",
        f"DELETE {OF_RUN}/dir",
        None,
        EMPTY,
        before=_SOME,
        then=(call(f"GET {ROOT}", {"path": FOLDER}, wanted={"files": [listed("a.txt", 5)]}),),
    ),
    ok("what is not there is deleted", f"DELETE {OF_RUN}/none", None, EMPTY),
)
_ELSEWHERE = ("..%2f..%2fx", "%2e%2e/%2e%2e/x", "a/%252e%252e/x", "a/..%2f..%2f..%2fx")
_SHADY = (("%2fetc/passwd", 500), ("..%5cx", 200), ("c:%5cx", 200))
"""Paths that MLflow takes for names on POSIX, with the status of its PUT."""
_REFUSED = differs("a path that means another place elsewhere is refused everywhere", "INVALID_PARAMETER_VALUE")
_NAME = differs("runs of our own SDK have such files", "RESOURCE_DOES_NOT_EXIST", status=404)
_QUERIED = ("../x", "/etc", "%2e%2e/x", "a/../../x", "file:///etc/passwd")
_SOUND = "(?i)Invalid path|invalid"
_PATHS = (
    *(bad(f"the path {path}", f"GET {OF_RUN}/{path}", None, _SOUND) for path in _ELSEWHERE),
    *(bad(f"the path {path}", f"PUT {OF_RUN}/{path}", None, _SOUND, raw=b"x", headers=PLAIN) for path in _ELSEWHERE),
    *(bad(f"the path {path}", f"DELETE {OF_RUN}/{path}", None, _SOUND) for path in _ELSEWHERE[:3]),
    bad("a name with a number sign", f"GET {OF_RUN}/a%23b", None, _SOUND, ours=_NAME),
    bad(
        "a name with a number sign",
        f"PUT {OF_RUN}/a%23b",
        None,
        _SOUND,
        raw=b"x",
        headers=PLAIN,
        ours=differs("runs of our own SDK have such files"),
    ),
    *(ok(f"the path {path}", f"GET {OF_RUN}/{path}", status=404, ours=_REFUSED) for path, _ in _SHADY),
    *(
        ok(f"the path {path}", f"PUT {OF_RUN}/{path}", raw=b"x", headers=PLAIN, status=status, ours=_REFUSED)
        for path, status in _SHADY
    ),
    *(bad(f"the path {path}", f"GET {ROOT}", {"path": path}, _SOUND) for path in _QUERIED),
    *(bad(f"the path {path}", LIST, {"run_id": "$run", "path": path}, _SOUND) for path in _QUERIED),
    ok("a backslash", f"GET {ROOT}", {"path": "..\\x"}, EMPTY, ours=_REFUSED),
    ok("a backslash", LIST, {"run_id": "$run", "path": "..\\x"}, {"root_uri": str}, ours=_REFUSED),
)


def _list(*files: dict[str, Any]) -> dict[str, Any]:
    return {"root_uri": f"mlflow-artifacts:/{FOLDER}", **({"files": list(files)} if files else {})}


_RUNS = (
    ok("what is in a run", LIST, {"run_id": "$new_run"}, _list(listed("a.txt", 5), listed("dir")), before=_SOME),
    ok(
        "a folder: paths from the run",
        LIST,
        {"run_id": "$new_run", "path": "dir"},
        _list(listed("dir/b.txt", 1), listed("dir/c")),
        before=_SOME,
    ),
    ok("run_uuid alone", LIST, {"run_uuid": "$new_run"}, _list(listed("a.txt", 5), listed("dir")), before=_SOME),
    ok("nothing", LIST, {"run_id": "$new_run"}, _list()),
    ok("a folder that is not there", LIST, {"run_id": "$new_run", "path": "none"}, _list()),
    ok("a file", LIST, {"run_id": "$new_run", "path": "a.txt"}, _list(), before=_SOME),
    missing(LIST, {"run_id": "x"}, "run_id"),
    bad(
        "of an unknown run",
        LIST,
        {"run_id": UNKNOWN_RUN},
        f"Run with id={UNKNOWN_RUN} not found",
        "RESOURCE_DOES_NOT_EXIST",
        404,
    ),
    ok(
        "its bytes for a browser",
        GET_RUN,
        {"run_id": "$new_run", "path": "dir/b.txt"},
        before=_SOME,
        text="1",
        headers_wanted={"content-disposition": "attachment", "x-content-type-options": "nosniff"},
    ),
    bad("a path that leads elsewhere", GET_RUN, {"run_id": "$new_run", "path": "../x"}, _SOUND),
    bad(
        "of an unknown run for a browser",
        GET_RUN,
        {"run_id": UNKNOWN_RUN, "path": "x"},
        "not found",
        "RESOURCE_DOES_NOT_EXIST",
        404,
    ),
    ok(
        "multipart upload: a folder has none of it",
        f"POST /api/2.0/mlflow-artifacts/mpu/create/{FOLDER}/big.bin",
        {"path": f"{FOLDER}/big.bin", "num_parts": 2},
        status=501,
        ours=differs("a folder has it too", answer=with_others({"upload_id": str, "credentials": list})),
    ),
)
CASES: tuple[Case, ...] = (*_PROXY, *_PATHS, *_RUNS)
