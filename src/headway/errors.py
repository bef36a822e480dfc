"""The errors that headway raises on purpose.

    HeadwayError                  base of all; `exit_code` is the exit code of the command line
    ├── UsageError                the request is invalid (exit code 2)
    │   ├── SelectionError        a suite, size, seed or step does not exist
    │   ├── CorpusError           a corpus cannot be read, or a model can read none of its texts
    │   ├── RunDirectoryError     a run directory holds results of another request
    │   └── StatisticsError       a statistic cannot be computed from a formula or a table
    ├── StorageError              a file cannot be written, or is damaged (exit code 1)
    └── CheckpointError           one checkpoint fails; a sweep records it and continues (exit code 1)
        └── UnsupportedModel      headway cannot measure the checkpoint's architecture correctly

Every message names the thing, says what was found and what was expected, and then what to do.
"""


class HeadwayError(Exception):
    """An expected failure. The message is written for the user."""

    exit_code = 1


class UsageError(HeadwayError):
    exit_code = 2


class SelectionError(UsageError):
    pass


class CorpusError(UsageError):
    pass


class RunDirectoryError(UsageError):
    pass


class StatisticsError(UsageError, ValueError):
    pass


class StorageError(HeadwayError):
    pass


class CheckpointError(HeadwayError):
    pass


class UnsupportedModel(CheckpointError):
    pass
