"""Importing what was logged elsewhere, with its original times: ``runtide import``, or from Python.

    from runtide.importing import mlflow, neptune, tensorboard, wandb

    report = tensorboard.import_directory("logs", experiment="old")

| open | for |
|---|---|
| ``tensorboard.py``, ``mlflow.py``, ``wandb.py``, ``neptune.py`` | the sources: how each says what runs it has, as ``records.py`` |
| ``importer.py`` | reads each run, has what is new written, sends it |
| ``staging.py`` | a run as its source has it now, held against what is imported already: ``ledger.py`` |
| ``writing.py``, ``identity.py`` | events of writers whose ids and numbers are the same wherever it is imported |
| ``names.py`` | what becomes of names that we do not allow |
| ``local_files.py`` | reading files that may be anything |

Every point comes with its own step and time. Importing again changes nothing, on any machine; a source that has grown
adds exactly what is new, given the same spool directory. What cannot be imported is reported, never cut or guessed.
"""

from runtide.importing.importer import ImportOptions, ImportReport, import_runs

__all__ = ["ImportOptions", "ImportReport", "import_runs"]
