"""Whose fault an exception is: the caller's, the entry's or the server's.

The type alone does not tell: a garbage reply can surface as AttributeError or TypeError, and so
can a mistake of the caller's.  So the traceback is walked from the outside in, and the first
frame that belongs to making keys, to (de)serialising or to talking to the server decides.
"""

from __future__ import annotations

import pickle
from enum import Enum
from traceback import walk_tb

from django.core.cache.backends.base import InvalidCacheKey
from django.db import DataError
from django.db import Error as DatabaseError
from django.db.transaction import TransactionManagementError

from django_resilient_cache.concurrency.interruption import interrupts


class ErrorClass(Enum):
    """What an exception that came out of a layer means."""

    CALLER_ERROR = "the caller's own mistake: passed on, says nothing about the layer"
    SERVER_REPLY = "an answer in the form of an exception: passed on, the layer is well"
    UNDECODABLE = "the entry is there but cannot be read back: a miss of this layer"
    INTERRUPTED = "meant for the caller, from outside: passed on, says nothing about the layer"
    LAYER_FAILURE = "the layer failed"


#: Answers of a server that are about the caller's request, not about the server.
_ABOUT_THE_REQUEST = (
    "wrongtype",
    "not an integer",
    "not a valid float",
    "would overflow",
    "would produce nan",
    "invalid expire",
    "value is out of range",
    "exceeds maximum allowed size",
    "object too large",
)
#: Errors by which a client passes on what the server answered, or refuses to send: (package,
#: class) -> what they mean; None: the text tells.
_ANSWERS: dict[tuple[str, str], ErrorClass | None] = {
    ("redis", "DataError"): ErrorClass.CALLER_ERROR,
    ("redis", "ResponseError"): None,
    ("valkey", "DataError"): ErrorClass.CALLER_ERROR,
    ("valkey", "ResponseError"): None,
    ("pymemcache", "MemcacheIllegalInputError"): ErrorClass.CALLER_ERROR,
    ("pymemcache", "MemcacheUnknownCommandError"): ErrorClass.LAYER_FAILURE,
    ("pymemcache", "MemcacheClientError"): ErrorClass.SERVER_REPLY,
    ("pymemcache", "MemcacheServerError"): None,
    ("pylibmc", "BadKeyProvided"): ErrorClass.CALLER_ERROR,
    ("pylibmc", "ClientError"): ErrorClass.SERVER_REPLY,
    ("pylibmc", "NotFound"): ErrorClass.SERVER_REPLY,
    ("pylibmc", "TooBig"): ErrorClass.SERVER_REPLY,
    ("pylibmc", "Error"): ErrorClass.LAYER_FAILURE,
}
_KEYS = frozenset(
    {
        "make_key",
        "make_and_validate_key",
        "validate_key",
        "get_backend_timeout",
        "default_key_func",
        "memcache_key_warnings",
        "_key_to_file",
    }
)
_DECODERS = frozenset(
    {
        *("loads", "decode", "decompress", "deserialize", "python_memcache_deserializer"),
        "_is_expired",  # of a file: unpickles when the entry ends
        "__setstate__",  # of a value
    }
)
_ENCODERS = frozenset(
    {
        *("dumps", "encode", "compress", "serialize", "_python_memcache_serializer"),
        "_write_content",  # of a file
        # Of a value: pylibmc, which is written in C, pickles without a frame of its own.
        *("__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__"),
    }
)
#: Packages that talk to servers; whatever comes out of them is the server's or the network's.
_CLIENTS = frozenset(
    {"redis", "valkey", "pymemcache", "pylibmc", "socket", "ssl", "select", "selectors", "asyncio"}
)
#: Clients that (de)serialise themselves: a frame further in may still tell.
_SERIALISING = frozenset({"pymemcache", "pylibmc"})
#: Backends that unpickle and pickle in the function that also reads or writes.
_LOCAL = frozenset(
    {
        "django.core.cache.backends.locmem",
        "django.core.cache.backends.filebased",
        "django.core.cache.backends.db",
    }
)
#: Backends that leave both to functions of their own, see above.
_REMOTE = ("django.core.cache.backends.", "django_redis.", "django_valkey.")

_READS = frozenset({"get", "get_many", "get_with_ttl", "get_many_with_ttl", "has_key"})
_COUNTS = frozenset({"incr", "decr"})
_MISTAKES = (TypeError, ValueError, OverflowError)

#: (module, function), from the outside in.
Frames = list[tuple[str, str]]


def classify(error: Exception, operation: str) -> ErrorClass:
    """Tell whose fault `error` is; `operation` is the name of what was asked of the layer."""
    if interrupts(error):
        return ErrorClass.INTERRUPTED
    if isinstance(error, NotImplementedError | InvalidCacheKey | TransactionManagementError):
        return ErrorClass.CALLER_ERROR
    if isinstance(error, DataError):
        return ErrorClass.CALLER_ERROR
    if isinstance(error, DatabaseError):
        return ErrorClass.LAYER_FAILURE
    frames = _frames(error)
    return (
        _judge_answer(error)
        or _judge_frames(frames, error, operation)
        or _judge_type(error, frames, operation)
    )


def _frames(error: Exception) -> Frames:
    frames = [
        (str(frame.f_globals.get("__name__", "")), frame.f_code.co_name)
        for frame, _ in walk_tb(error.__traceback__)
    ]
    return [frame for frame in frames if not frame[0].startswith("django_resilient_cache.")]


def _judge_answer(error: Exception) -> ErrorClass | None:
    for base in type(error).__mro__:
        kind = (base.__module__.partition(".")[0], base.__name__)
        if kind in _ANSWERS:
            return _ANSWERS[kind] or _judge_text(str(error).lower())
    return None


def _judge_text(text: str) -> ErrorClass:
    text = text.rpartition("caused error: ")[2]  # a pipeline names the command, key and all, first
    about_the_request = any(part in text for part in _ABOUT_THE_REQUEST)
    return ErrorClass.SERVER_REPLY if about_the_request else ErrorClass.LAYER_FAILURE


def _judge_frames(frames: Frames, error: Exception, operation: str) -> ErrorClass | None:
    for depth, (module, function) in enumerate(frames):
        root = module.partition(".")[0]
        if root in _CLIENTS - _SERIALISING:
            # A text that has no bytes can only be the caller's.
            return (
                ErrorClass.CALLER_ERROR
                if isinstance(error, UnicodeEncodeError)
                else ErrorClass.LAYER_FAILURE
            )
        if function in _KEYS or function in _ENCODERS:
            return ErrorClass.CALLER_ERROR
        if function in _DECODERS:
            return ErrorClass.UNDECODABLE
        if module in _LOCAL:
            verdict = _judge_in_local(frames[depth:], error, operation)
            if verdict is not None:
                return verdict
    return None


def _judge_in_local(frames: Frames, error: Exception, operation: str) -> ErrorClass | None:
    """Tell of a backend that talks to its store and (un)pickles in one function."""
    module, _ = frames[0]
    inside = [name for name, _ in frames[1:]]
    if any(name.startswith("django.db") for name in inside):
        return ErrorClass.CALLER_ERROR if isinstance(error, _MISTAKES) else ErrorClass.LAYER_FAILURE
    if any(function in _ENCODERS | _DECODERS | _KEYS for _, function in frames):
        return None  # a frame further in tells
    if isinstance(error, OSError) and module.endswith("filebased"):
        by_the_entry = any(name.partition(".")[0] not in _STORING for name in inside)
        if not by_the_entry:
            return ErrorClass.LAYER_FAILURE
    if operation in _COUNTS:
        return ErrorClass.SERVER_REPLY if isinstance(error, _MISTAKES) else ErrorClass.UNDECODABLE
    if module.endswith("db") and not any(frame == (module, "get_many") for frame in frames):
        return ErrorClass.CALLER_ERROR  # there alone it unpickles
    if operation in _READS or frames[0] == ("django.core.cache.backends.filebased", "touch"):
        return ErrorClass.UNDECODABLE
    return ErrorClass.CALLER_ERROR


#: What a file backend itself uses.
_STORING = frozenset({"django", "tempfile", "os", "shutil", "glob", "random", "posixpath"})


def _raised_while_pylibmc_pickles(frames: Frames) -> bool:
    """Tell of a client in C, which leaves no frame: what follows Django's is the entry's own code.

    The errors of pylibmc itself are answers, see above.
    """
    modules = [module for module, _ in frames]
    backend = "django.core.cache.backends.memcached"
    if backend not in modules:
        return False
    following = modules[len(modules) - modules[::-1].index(backend) :]
    return not any(module.partition(".")[0] in _CLIENTS for module in following)


def _judge_type(error: Exception, frames: Frames, operation: str) -> ErrorClass:
    """No frame told."""
    if isinstance(error, pickle.PicklingError | UnicodeEncodeError):
        return ErrorClass.CALLER_ERROR
    if isinstance(error, pickle.UnpicklingError):
        return ErrorClass.UNDECODABLE
    last = frames[-1][0] if frames else ""
    in_backend = last.startswith(_REMOTE)
    if operation in _COUNTS:
        # The key is missing, or its value is no number, or the difference is none.
        if type(error) is ValueError or (in_backend and isinstance(error, _MISTAKES)):
            return ErrorClass.SERVER_REPLY
    elif _raised_while_pylibmc_pickles(frames):
        return ErrorClass.UNDECODABLE if operation in _READS else ErrorClass.CALLER_ERROR
    elif in_backend and operation not in _READS and isinstance(error, _MISTAKES):
        return ErrorClass.CALLER_ERROR  # of a timeout, say; keys and values were judged above
    return ErrorClass.LAYER_FAILURE
