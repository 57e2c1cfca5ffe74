"""An S3 double in this process, and what points clients of S3 to it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import fsspec
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def running_s3() -> Iterator[dict[str, str]]:
    """Run it with an empty bucket named ``bucket``; yield the environment that leads to it, which this process has, too."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").clear_instance_cache()
        with suppress(FileExistsError):  # the double keeps its buckets as long as the process lives
            fsspec.filesystem("s3").mkdir("bucket")
        yield environment
        fsspec.filesystem("s3").clear_instance_cache()
    server.stop()
