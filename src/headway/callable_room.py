"""Makes a room that bears a verb's name callable as that verb: `headway.measure(...)`."""

from collections.abc import Callable
from inspect import Signature, cleandoc, signature
from types import ModuleType
from typing import Any


class CallableRoom(ModuleType):
    """A module whose call is the verb of its name: `sys.modules[__name__].__class__ = CallableRoom`.

    `help` and `inspect.signature` show the verb. The verbs are imported when one is first asked for.
    """

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._verb(*args, **options)

    @property
    def _verb(self) -> Callable[..., Any]:
        from headway import verbs

        return getattr(verbs, self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> Signature:
        return signature(self._verb)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        """The verb's words, then the room's."""
        verb = self._verb
        room = f"The room of that name:\n\n{cleandoc(self.__dict__['__doc__'] or '')}"
        return f"{verb.__name__}{signature(verb)}\n\n{cleandoc(verb.__doc__ or '')}\n\n{room}"
