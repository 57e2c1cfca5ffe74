"""What the purge may remove: the place of that very run below the root, and nothing else."""

import os
from pathlib import Path

import pytest

from runtide_consumers.purge.files import Places, Removed, check_root, place_of_model, place_of_run, remove_files
from runtide_schemas.errors import InvalidRequest, TransientError

RUN = "a" * 32
MODEL = "m-" + "1" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An artifact root with two runs."""
    for run_id in (RUN, "b" * 32):
        folder = tmp_path / "artifacts" / run_id / "artifacts" / "plots"
        folder.mkdir(parents=True)
        (folder / "a.txt").write_bytes(b"123")
        (folder.parent / "b.txt").write_bytes(b"4567")
    return tmp_path / "artifacts"


def test_the_place_of_a_run_is_removed_and_the_others_stay(root: Path) -> None:
    place = place_of_run(str(root), (root / RUN / "artifacts").as_uri(), RUN)
    assert remove_files(place) == Removed(2, 7)
    assert [path.name for path in root.iterdir()] == ["b" * 32]
    assert remove_files(place) == Removed(0, 0)


def test_what_a_gateway_keeps_is_found_below_its_root(root: Path) -> None:
    assert place_of_run(str(root), f"mlflow-artifacts:/{RUN}/artifacts", RUN) == (root / RUN / "artifacts").as_uri()
    assert (
        place_of_run("s3://bucket/kept", f"mlflow-artifacts:/{RUN}/artifacts", RUN)
        == f"s3://bucket/kept/{RUN}/artifacts"
    )
    assert (
        place_of_run("s3://bucket/kept", f"s3://bucket/kept/1/{RUN}/artifacts", RUN)
        == f"s3://bucket/kept/1/{RUN}/artifacts"
    )


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "{root}",
        "{root}/",
        "{root}/artifacts",
        "{root}/" + "b" * 32,
        "{root}/" + RUN + "/../" + "b" * 32,
        "{root}/" + RUN + "/%2E%2E/" + "b" * 32,
        "{root}/" + RUN + "//x",
        "{root}/" + RUN + "/artifacts/plots",
        "{root}/" + RUN + "/x",
        "{root}/%00/" + RUN,
        "file://[/" + RUN,
        "{root}x/" + RUN,
        "file:///etc/" + RUN,
        "s3://bucket/" + RUN,
        "mlflow-artifacts:/../" + RUN,
        "mlflow-artifacts://host/" + RUN,
        "mlflow-artifacts:/",
    ],
)
def test_nothing_else_may_be_removed(root: Path, uri: str) -> None:
    assert place_of_run(str(root), uri.replace("{root}", root.as_uri()), RUN) == ""


def test_the_place_of_a_model_is_its_own_folder_below_models(root: Path) -> None:
    kept = root / "1" / "models" / MODEL / "artifacts"
    kept.mkdir(parents=True)
    (kept / "MLmodel").write_bytes(b"12345")
    place = place_of_model(str(root), f"mlflow-artifacts:/1/models/{MODEL}/artifacts", MODEL)
    assert place == kept.as_uri()
    assert place_of_model(str(root), f"{root.as_uri()}/1/models/{MODEL}", MODEL) == kept.parent.as_uri()
    assert place_of_model("s3://b/k", f"s3://b/k/1/models/{MODEL}", MODEL) == f"s3://b/k/1/models/{MODEL}"
    assert remove_files(place) == Removed(1, 5)
    assert [path.name for path in (root / "1" / "models").iterdir()] == []


@pytest.mark.parametrize(
    ("uri", "model_id"),
    [
        ("{root}", MODEL),
        ("{root}/1/models", MODEL),
        ("{root}/1/models/artifacts", MODEL),
        ("{root}/1/" + MODEL, MODEL),
        ("{root}/1/models/m-" + "2" * 32 + "/artifacts", MODEL),
        ("{root}/1/models/" + MODEL + "/artifacts/x", MODEL),
        ("{root}/1/models/" + MODEL + "/../m-" + "2" * 32, MODEL),
        ("{root}/1/x/../models/" + MODEL, MODEL),
        ("{root}/" + RUN + "/artifacts", MODEL),
        ("file:///etc/models/" + MODEL, MODEL),
        ("s3://bucket/models/" + MODEL, MODEL),
        ("mlflow-artifacts:/../models/" + MODEL, MODEL),
        ("{root}/1/models/" + RUN, RUN),
        ("{root}/1/models/x", "x"),
        ("{root}/1/models/..", ".."),
        ("{root}/1/models/" + MODEL + "\n", MODEL + "\n"),
    ],
)
def test_nothing_but_a_models_own_folder_may_be_removed_for_it(root: Path, uri: str, model_id: str) -> None:
    assert place_of_model(str(root), uri.replace("{root}", root.as_uri()), model_id) == ""


@pytest.mark.parametrize("run_id", ["0", "artifacts", "A" * 32, RUN + "\n"])
def test_a_run_that_is_called_like_a_folder_has_no_place(root: Path, run_id: str) -> None:
    for uri in (f"mlflow-artifacts:/{run_id}", f"{root.as_uri()}/{run_id}", f"{root.as_uri()}/{RUN}/artifacts"):
        assert place_of_run(str(root), uri, run_id) == ""


@pytest.mark.parametrize(
    ("uri", "shares"),
    [
        ("{root}/{run}/artifacts", True),
        ("{root}/{run}/artifacts/", True),
        ("mlflow-artifacts:/{run}/artifacts", True),
        ("{root}/%61" + RUN[1:] + "/artifacts/model", True),
        ("{root}/link/model", True),
        ("{root}/{run}", True),
        ("{root}", True),
        ("mlflow-artifacts:/", True),
        ("{root}/{run}/other", False),
        ("{root}/" + "b" * 32, False),
        ("s3://bucket/{run}/artifacts", False),
        ("models:/m-1", False),
        ("file:///%00", False),
    ],
)
def test_who_has_a_share_in_a_place_is_found_whichever_way_it_is_written(root: Path, uri: str, shares: bool) -> None:
    (root / "link").symlink_to(root / RUN / "artifacts")
    place = (root / RUN / "artifacts").as_uri()
    places = Places(str(root), [place, (root / ("c" * 32)).as_uri()])
    found = set(places.shared_with(uri.replace("{root}", root.as_uri()).replace("{run}", RUN)))
    assert (place in found) == shares
    remote = Places("s3://bucket/kept", [f"s3://bucket/kept/{RUN}"])
    assert list(remote.shared_with(f"mlflow-artifacts:/{RUN}/artifacts")) == [f"s3://bucket/kept/{RUN}"]
    assert list(remote.shared_with(f"s3://other/kept/{RUN}")) == []


def test_a_root_that_is_not_here_is_refused(root: Path) -> None:
    check_root(str(root))
    check_root("s3://bucket/kept")
    with pytest.raises(InvalidRequest, match="is no folder of this machine"):
        check_root(str(root / "missing"))


def test_a_link_is_not_followed_out_of_the_root_nor_to_another_run(root: Path) -> None:
    (root / RUN / "other").symlink_to(root / ("b" * 32))
    assert place_of_run(str(root), (root / RUN / "other" / "artifacts").as_uri(), RUN) == ""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_bytes(b"x")
    (root / RUN / "artifacts" / "link").symlink_to(outside)
    (root / RUN / "artifacts" / "file").symlink_to(outside / "kept.txt")
    assert remove_files(place_of_run(str(root), (root / RUN / "artifacts").as_uri(), RUN)).files == 3
    assert (outside / "kept.txt").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove everything")
def test_what_cannot_be_removed_is_told(root: Path) -> None:
    (root / RUN / "artifacts").chmod(0o500)
    with pytest.raises(TransientError, match="cannot remove"):
        remove_files((root / RUN / "artifacts").as_uri())
