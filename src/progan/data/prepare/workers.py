"""Worker processes that call a function for one task after another.

They are plain child processes of this interpreter rather than `multiprocessing`, which would run the user's main script
again in every worker, so that a script without a `__main__` guard could not prepare images. Threads are no choice
either: small images spend their time in Python, and four threads were slower than one (13,279 JPEGs of 64x64: 1.2 s
with one thread, 2.0 s with four, 0.5 s with four processes and their start).
"""

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from queue import SimpleQueue
from threading import Lock
from typing import Any, TypeVar

from progan.errors import DatasetError

Result = TypeVar("Result")
FEW_IMAGES, _MANY_IMAGES = 16, 256


def chunk_size(total: int, workers: int, most: int = _MANY_IMAGES) -> int:
    """Images of a task: many, but few enough for every worker to have several tasks, unless that is a handful."""
    return max(1, min(_MANY_IMAGES, most, max(FEW_IMAGES, total // (4 * workers))))


def core_count() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], workers: int
) -> Generator[Result, None, None]:
    """Results in the order of the tasks, a few tasks ahead, in bounded memory; with one worker in this process."""
    if workers <= 1:
        yield from (function(*task) for task in tasks)
        return
    with ExitStack() as stack:
        # A thread for each worker process waits for its answer; workers are taken from a queue and put back.
        threads = stack.enter_context(ThreadPoolExecutor(workers))  # left last: workers killed, no thread waits for one
        idle: SimpleQueue[Worker] = SimpleQueue()
        for _ in range(workers):
            idle.put(stack.enter_context(closing(Worker())))

        def run(task: tuple[Any, ...]) -> Result:
            worker = idle.get()
            try:
                return worker.call(function, task)
            finally:
                idle.put(worker)

        # Results are taken in order, while at most two tasks for each worker wait: memory stays bounded.
        pending: deque[Future[Result]] = deque()
        for task in tasks:
            pending.append(threads.submit(run, task))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


class Worker:
    """A process that runs one function call after another: pickles go in and come out through pipes.

    One that dies, for want of memory or of an image that its decoder does not survive, is replaced once per call.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._closed = False
        self._start()

    def _start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", "from progan.data.prepare.workers import serve; serve()"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def _stop(self) -> None:
        self._process.kill()
        with suppress(OSError):  # what could not be sent to a dead process
            self._process.communicate()

    def close(self) -> None:
        """End the process, whatever it does."""
        with self._lock:
            self._closed = True
            self._stop()

    def call(self, function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
        """The function's result, computed over there. Raises its errors, and DatasetError if the process died twice."""
        outcome = self._ask(function, arguments)
        if outcome is None:  # it died: try once more with a new process
            with self._lock:
                if not self._closed:
                    self._stop()
                    self._start()
            outcome = self._ask(function, arguments)
        if outcome is None:
            raise DatasetError(
                "a process that decodes images died, perhaps for lack of memory. "
                "Run the same command again to continue; --workers 1 takes the least memory"
            )
        result, error = outcome
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def _ask(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Exception | None] | None:
        """Result or error; None if the process died over it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((function, arguments), self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)  # type: ignore[no-any-return]
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):  # ValueError: closed in the meantime
            return None


def serve() -> None:
    """Run what the parent sends to this worker process, until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    calls, results = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            function, arguments = pickle.load(calls)
        except EOFError:
            return
        try:
            outcome: tuple[Any, Exception | None] = function(*arguments), None
        except Exception as error:
            outcome = None, error
        try:
            pickle.dump(outcome, results, pickle.HIGHEST_PROTOCOL)
            results.flush()
        except BrokenPipeError:  # the parent was killed: no one is there to be told, nor at the end of Python
            os._exit(1)
