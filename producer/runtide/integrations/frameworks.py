"""What an integration says when its framework is not there."""


def missing(framework: str, extra: str, error: ImportError) -> ImportError:
    """Return the error to raise for ``error``: it names the extra of Runtide that brings the framework."""
    return ImportError(
        f"runtide.integrations.{extra} needs {framework}, which cannot be imported ({error}): "
        f"pip install 'runtide[{extra}]'"
    )
