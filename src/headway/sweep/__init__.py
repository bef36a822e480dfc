"""Run a job over a grid of checkpoints: resumable, one part a checkpoint, a failure never stops the others."""

from headway.sweep.executors import Executor, InProcess, Processes, ask
from headway.sweep.job import Job, Outcome, Work
from headway.sweep.run import Summary, begun, require_free, run, store, stored_rows
from headway.sweep.settings import differing_settings
from headway.sweep.status import Status, status

__all__ = [
    "Executor",
    "InProcess",
    "Job",
    "Outcome",
    "Processes",
    "Status",
    "Summary",
    "Work",
    "ask",
    "begun",
    "differing_settings",
    "require_free",
    "run",
    "status",
    "store",
    "stored_rows",
]
