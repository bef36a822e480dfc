"""The errors that headway raises on purpose.

    HeadwayError                  anything below; `exit_code` is what the command line ends with
    ├── UsageError                what was asked for cannot be asked for (exit code 2)
    │   ├── SelectionError        a suite, size, seed or step that does not exist
    │   ├── CorpusError           a corpus that cannot be read, or of which a model can read nothing
    │   ├── RunDirectoryError     a run directory that holds something else than what is asked for
    │   └── StatisticsError       a formula or a table from which the statistic cannot be computed
    ├── StorageError              a file of the run directory cannot be written, or is damaged (exit code 1)
    └── CheckpointError           one checkpoint cannot be done; a sweep records it and goes on (exit code 1)
        └── UnsupportedModel      its architecture is not one that headway can measure truthfully

Every message names the thing, says what was found and what was expected, and how to go on.
"""


class HeadwayError(Exception):
    """Something that headway can explain; the message is written for the person who reads it."""

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
