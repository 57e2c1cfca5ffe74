"""Models as directories: an `MLmodel` file beside the model's data, laid out as MLflow lays it out.

Either side loads what the other saved. Start reading at `saving.py` and `loading.py`; `mlmodel.py` is the file,
`signature.py` what goes in and comes out, `flavors.py` how frameworks plug in, `digest.py` what a directory's identity
is. Importing this package imports no framework.
"""

from runtide.models.digest import ManifestEntry, digest_directory
from runtide.models.errors import (
    ModelDirectoryError,
    ModelError,
    ModelInputError,
    UnknownFlavorError,
    UntrustedModelError,
)
from runtide.models.loading import PyfuncModel, load_model, load_pyfunc
from runtide.models.mlmodel import MLmodel
from runtide.models.saving import ModelInfo, save_model
from runtide.models.signature import ColumnSpec, ModelSignature, TensorSpec, infer_signature

__all__ = [
    "ColumnSpec",
    "MLmodel",
    "ManifestEntry",
    "ModelDirectoryError",
    "ModelError",
    "ModelInfo",
    "ModelInputError",
    "ModelSignature",
    "PyfuncModel",
    "TensorSpec",
    "UnknownFlavorError",
    "UntrustedModelError",
    "digest_directory",
    "infer_signature",
    "load_model",
    "load_pyfunc",
    "save_model",
]
