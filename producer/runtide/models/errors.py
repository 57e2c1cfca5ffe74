"""What can be wrong with a model or with what it is asked, named for what the caller must do."""

from runtide_schemas.errors import InvalidRequest


class ModelError(InvalidRequest):
    """A model cannot be saved or loaded as asked; the message says why."""


class ModelDirectoryError(ModelError):
    """The directory is not a model, or is damaged: give another one, or restore it."""


class UnknownFlavorError(ModelError):
    """No installed flavor knows this model: install the one that does."""


class UntrustedModelError(ModelError):
    """Loading would run code or build types nobody has vouched for: trust them explicitly, or don't load."""


class ModelInputError(ModelError):
    """The data does not fit the model's signature: change the data."""
