"""Tasks: one study of one subject, on one stack of heads. Its result is saved, and reused while nothing has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from headway.progress import Progress, Silent
from headway.stats.threads import one_core
from headway.store.directory import RunDirectory
from headway.studies import OF_ROLES, OF_SCORES, PARTS, READS, STUDIES, TABLES, reuse, stacks
from headway.studies.result import Result


@dataclass(frozen=True)
class Task:
    """One study of one subject. It travels to a worker process with the tables that were read.

    Attributes:
        rundir: the run directory, or one stack of it.
        given: the arguments of the study.
        sources: a hash of the content of each table that it reads, by name.
        made: what decides its numbers besides; see `headway.studies.reuse.making`.
    """

    study: str
    rundir: RunDirectory
    given: Mapping[str, Any]
    sources: Mapping[str, str]
    made: Mapping[str, Any]

    def saved(self) -> Result | None:
        """The saved result of the same tables with the same options and code, if there is one."""
        return reuse.saved(self.rundir, self.study, self.sources, self.made)

    def __call__(self, progress: Progress | None = None) -> Result:
        """Run the study, and save its result."""
        return self.whole([self._found(progress=progress or Silent())])

    def parts(self) -> list[Callable[[], Result]]:
        """What makes the result, each call a part of it: several processes can make them at once.

        Without resampling a study is so quick that it is made in one.
        """
        names = PARTS[self.study][0] if self.study in PARTS and self.given.get("bootstraps") else ()
        return [partial(self._found, part=name) for name in names] or [self._found]

    def whole(self, parts: Sequence[Result]) -> Result:
        """The result of the parts, in their order. It is saved."""
        found = parts[0] if len(parts) == 1 else PARTS[self.study][1](parts)
        found = stacks.of_stack_alone(found, stacks.stack_of(self.rundir))
        found = replace(found, sources=dict(self.sources), made=dict(self.made))
        found.save(self.rundir)
        return found

    def _found(self, **given: Any) -> Result:
        with one_core():
            return STUDIES[self.study](self.rundir, **self.given, **given)


def tasks(
    study: str,
    rundir: RunDirectory,
    contents: Mapping[str, str],
    *,
    scores: Sequence[str],
    roles: Sequence[str],
    **given: Any,
) -> Iterator[Task]:
    """The tasks of a study: one for each score if it looks at one at a time, and for each stack of heads that has it.

    Args:
        contents: a hash of the content of each table, by name. Take it before the tables are read: if a partition is
            written meanwhile, the result is out of date.
    """
    there = set(rundir.tables())
    sources = {table: contents[table] for table in sorted(TABLES[study] & there)}
    read = READS[study][1](rundir) if study in READS else {}
    subjects: list[dict[str, Any]] = [{}]
    if study in OF_SCORES:
        subjects = [{"score": score} for score in dict.fromkeys(scores)]
    elif study in OF_ROLES:
        subjects = [{"roles": tuple(roles)}]
    for subject in subjects:
        arguments = {**given, **subject}
        for part in stacks.each_stack(rundir, study, subject.get("score")):
            stack = stacks.stack_of(part)
            decisive = arguments | ({"stack": stack} if stack else {}) | ({"read": read} if read else {})
            yield Task(study, part, arguments, sources, reuse.making(decisive))
