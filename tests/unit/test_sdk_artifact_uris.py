"""What an artifact's URI means; above all that none leads out of the root that a gateway keeps."""

from pathlib import Path

import pytest

from runtide.artifacts.uris import for_fsspec, is_proxied, local_path, proxied_path, resolve_proxied
from runtide_schemas.errors import InvalidRequest


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("mlflow-artifacts:", ""), ("mlflow-artifacts:/", ""), ("mlflow-artifacts:/run/a", "run/a"), ("mlflow-artifacts:///run/a/", "run/a"),
        ("mlflow-artifacts:/run/a%20b%25c", "run/a b%c"), ("mlflow-artifacts:/run/%252e%252e", "run/%2e%2e"),
    ],
)  # fmt: skip
def test_a_path_below_the_gateways_root(uri: str, path: str) -> None:
    assert is_proxied(uri)
    assert proxied_path(uri) == path


@pytest.mark.parametrize(
    "uri",
    [
        "mlflow-artifacts://host:5050/run/a", "mlflow-artifacts://user@host/run", "mlflow-artifacts:/run/../../etc/passwd",
        "mlflow-artifacts:/%2e%2e/secret", "mlflow-artifacts:/a%2f..%2f..%2fsecret", "mlflow-artifacts:/a//b", "mlflow-artifacts:/a/./b",
        "mlflow-artifacts:/a%5c..%5cb", "mlflow-artifacts:/a%00b", "mlflow-artifacts:/c%3A/x", "mlflow-artifacts:/run?x=1", "mlflow-artifacts:/run#x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("root", ["/srv/artifacts", "s3://bucket/artifacts"])
def test_what_is_none_is_refused(uri: str, root: str) -> None:
    with pytest.raises(InvalidRequest):
        resolve_proxied(uri, root)


def test_where_the_gateway_keeps_it(tmp_path: Path) -> None:
    assert resolve_proxied("mlflow-artifacts:/run/a%20b", "s3://bucket/kept/") == "s3://bucket/kept/run/a%20b"
    assert for_fsspec("s3://bucket/kept/run/a%20b") == "s3://bucket/kept/run/a b"
    for root in (str(tmp_path), tmp_path.as_uri()):
        found = resolve_proxied("mlflow-artifacts:/run/a%20b", root)
        assert local_path(found) == tmp_path / "run" / "a b"


def test_a_link_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "out").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "root" / "in").symlink_to(tmp_path / "root")
    with pytest.raises(InvalidRequest, match="leads out of the artifact root"):
        resolve_proxied("mlflow-artifacts:/out/secret", str(tmp_path / "root"))
    assert resolve_proxied("mlflow-artifacts:/in/a", str(tmp_path / "root")).endswith("/root/a")
    (tmp_path / "linked").symlink_to(tmp_path / "root")
    assert resolve_proxied("mlflow-artifacts:/a", str(tmp_path / "linked")).endswith("/root/a")
