"""Being told to stop: by a person, by the system, or by a cluster shortly before its time limit."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """A context manager inside of which the first signal of SIGNALS is remembered in `received`.
    Further ones change nothing, but for SIGINT, which acts as ever. Nothing is caught outside of
    the main thread, as Python has it, nor unless `catch`."""

    def __init__(self, catch: bool = True) -> None:
        self.received: signal.Signals | None = None
        self._catch = catch

    def __enter__(self) -> Self:
        self._before = {}
        if self._catch and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)
        # A cluster tells each process of a job, and what has started it tells it again at the same
        # moment: that must not end the saving. A person's second Ctrl-C is meant.
        signal.signal(signal.SIGINT, self._before[signal.SIGINT])

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
