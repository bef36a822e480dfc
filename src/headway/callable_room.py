"""Makes a room that bears a verb's name callable as that verb: `headway.measure(...)`."""

from types import ModuleType
from typing import Any


class CallableRoom(ModuleType):
    """A module whose call is the verb of its name: `sys.modules[__name__].__class__ = CallableRoom`."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        from headway import verbs

        return getattr(verbs, self.__name__.rpartition(".")[2])(*args, **options)
