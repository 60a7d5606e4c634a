"""A stand-in for the package of ZeroGPU Spaces, as far as it was read (spaces 0.51).

A decorated function says its seconds, then runs in a forked process; what goes in and what comes out is
pickled; what goes wrong there arrives as a name alone. Every call is noted in $SPACES_LOG: function, first
argument, seconds.
"""

import functools
import inspect
import json
import os
import pickle
import sys
import traceback

forked = False


def GPU(task=None, *, duration=None, size=None):
    if task is None:
        return functools.partial(GPU, duration=duration, size=size)

    def note(arguments):
        seconds = duration(*arguments) if callable(duration) else duration
        with open(os.environ["SPACES_LOG"], "a") as log:
            log.write(json.dumps([task.__name__, str(arguments[0]), seconds]) + "\n")

    def called(arguments):
        """What comes from the fork, one after the other."""
        sent = pickle.dumps(arguments)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            global forked
            forked = True
            out = os.fdopen(writing, "wb")
            try:
                given = pickle.loads(sent)
                results = task(*given) if inspect.isgeneratorfunction(task) else [task(*given)]
                for each in results:
                    pickle.dump(("ok", each), out)
                    out.flush()
            except BaseException as error:
                traceback.print_exc(file=sys.stderr)
                pickle.dump(("error", type(error).__name__), out)
            finally:
                out.close()
                os._exit(0)
        os.close(writing)
        try:
            with os.fdopen(reading, "rb") as back:
                while True:
                    try:
                        kind, value = pickle.load(back)
                    except EOFError:
                        return
                    if kind == "error":
                        raise RuntimeError(f"ZeroGPU worker error: {value}")
                    yield value
        finally:
            os.waitpid(child, 0)

    if inspect.isgeneratorfunction(task):

        @functools.wraps(task)
        def follow(*arguments):
            note(arguments)
            yield from called(arguments)

        return follow

    @functools.wraps(task)
    def ask(*arguments):
        note(arguments)
        return next(iter(list(called(arguments))))

    return ask
