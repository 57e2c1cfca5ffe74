"""URLs by which clients reach an object store themselves, for a while: signed by the store's own client, with its rights."""

import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from runtide_schemas.errors import InvalidRequest, NotFound

log = logging.getLogger(__name__)


class DirectS3:
    """Parts of an object and whole ones, in S3 and what speaks like it. Blocks; raises what its client does."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def begin(self, key: str, count: int, seconds: int) -> tuple[str, list[str]]:
        """Begin an upload; return its id and a URL for each part, which takes a PUT for some seconds."""
        bucket, name, _ = self._files.split_path(key)
        upload = str(self._files.call_s3("create_multipart_upload", Bucket=bucket, Key=name)["UploadId"])
        about = {"client_method": "upload_part", "UploadId": upload}
        return upload, [
            str(self._files.url(key, expires=seconds, PartNumber=number, **about)) for number in range(1, count + 1)
        ]

    def complete(self, key: str, upload: str, parts: Sequence[tuple[int, str]]) -> None:
        """Make an object of the parts, given by number and tag."""
        if not all(tag for _, tag in parts):
            raise InvalidRequest("each part needs the ETag that the store answered with when it was sent")
        bucket, name, _ = self._files.split_path(key)
        named = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(parts)]
        self._call(
            "complete_multipart_upload",
            upload,
            Bucket=bucket,
            Key=name,
            UploadId=upload,
            MultipartUpload={"Parts": named},
        )
        self._files.invalidate_cache()

    def abort(self, key: str, upload: str) -> None:
        """Forget an upload."""
        bucket, name, _ = self._files.split_path(key)
        self._call("abort_multipart_upload", upload, Bucket=bucket, Key=name, UploadId=upload)

    def _call(self, method: str, upload: str, **arguments: Any) -> None:
        try:
            self._files.call_s3(method, **arguments)
        except FileNotFoundError as error:
            raise NotFound(f"the store has no upload {upload[:100]!r}; begin it again") from error
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise InvalidRequest(
                f"the store refuses what was said of upload {upload[:100]!r}: {error.strerror}"
            ) from error


def download_url(files: Any, protocol: str, key: str, seconds: int) -> str | None:
    """Return a URL by which a file can be read for some seconds; None where the store or its credentials can sign none.

    What it answers is marked as a download, as far as the store can be told so.
    """
    if (options := _DOWNLOADS.get(protocol)) is None:
        return None
    try:
        return str(files.sign(key, expiration=seconds, **options(key.rpartition("/")[2])))
    except Exception as error:  # noqa: BLE001  # each store's client has exceptions of its own for credentials that cannot sign
        log.info("%s: no URL can be signed with these credentials: %s", protocol, error)
        return None


def _attachment(name: str) -> str:
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


_DOWNLOADS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "s3": lambda name: {"ResponseContentDisposition": _attachment(name)},
    "gs": lambda name: {"response_disposition": _attachment(name)},
    "abfs": lambda name: {"content_disposition": _attachment(name)},
}
"""How each store is told what its answer is to say, by fsspec's name of it."""
