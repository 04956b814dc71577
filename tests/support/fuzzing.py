"""Edit the bytes and the JSON values of valid files, and check how a reader handles the result."""

import copy
import json
import resource
import signal
import sys
import warnings
from contextlib import contextmanager

from hypothesis import strategies as st

from ggf_cli.errors import GGFError

# Long enough for a busy machine.
LONGEST_S = 20
# In bytes: the memory that Python, torch and their caches take for any file.
SLACK = 300 * 2**20


class Hang(BaseException):
    """A timeout. It is no `Exception`, which a reader could handle as a damaged file."""


@contextmanager
def kept_promise(size):
    """Check a reader in a `with` block.

    It must succeed or raise `GGFError`, in at most `LONGEST_S` seconds, with at most `SLACK` bytes
    of memory and twice `size`, the size of the file.
    """

    def hang(*_):
        raise Hang(f"more than {LONGEST_S} s")

    before, handler = _peak(), signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except GGFError:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert _peak() - before <= 2 * size + SLACK


def _peak():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# --- bytes ----------------------------------------------------------------------------------------

_NUMBERS = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
_PLACE = st.floats(0, 1)
_EDIT = st.one_of(
    st.tuples(st.just("flip"), _PLACE, st.integers(0, 7)),
    st.tuples(st.just("write"), _PLACE, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("insert"), _PLACE, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("delete"), _PLACE, st.integers(1, 200)),
    st.tuples(st.just("repeat"), _PLACE, st.integers(1, 200)),
    st.tuples(st.just("cut"), _PLACE, st.just(0)),
    st.tuples(
        st.just("number"),
        _PLACE,
        st.tuples(st.sampled_from(_NUMBERS), st.sampled_from([1, 2, 4, 8]), st.booleans()),
    ),
)


def edited_bytes(seed):
    """The bytes `seed` after a few random edits."""
    return st.lists(_EDIT, min_size=1, max_size=5).map(lambda edits: _apply(seed, edits))


def _apply(content, edits):
    content = bytearray(content)
    for kind, place, how in edits:
        at = int(place * len(content))
        match kind:
            case "flip" if at < len(content):
                content[at] ^= 1 << how
            case "write":
                content[at : at + len(how)] = how
            case "insert":
                content[at:at] = how
            case "delete":
                del content[at : at + how]
            case "repeat":
                content[at:at] = content[at : at + how]
            case "cut":
                del content[at:]
            case "number":
                value, width, big = how
                order = "big" if big else "little"
                content[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, order)
    return bytes(content)


# --- JSON -----------------------------------------------------------------------------------------

TEXT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "../../x", "/etc/passwd", "\x1b[2J", "[/b]", "\0", "x" * 5000, "nan", "\ud800"]
    ),
)
NUMBER = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([2**31, 2**53 + 1, 2**63, 2**64, 10**30, 10**400, -1]),
    st.floats(),
    st.sampled_from([1e-320, 1e308, -0.0]),
)
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBER, TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths(document, here=()):
    """The path, a tuple of keys, of each value in a JSON document."""
    yield here
    if isinstance(document, dict | list):
        items = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in items:
            yield from paths(value, (*here, key))


@st.composite
def edited_json(draw, document):
    """The document with a few values replaced, removed, added or repeated."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = ("document", *draw(st.sampled_from(list(paths(document)))))
        holder = inside = {"document": document}
        for key in way:
            inside = inside[key]
        match draw(st.sampled_from(["replace", "replace", "remove", "add", "repeat"])):
            case "remove" if way:
                del inside[last]
            case "add" if isinstance(inside[last], dict):
                inside[last][draw(TEXT)] = draw(VALUE)
            case "repeat" if isinstance(inside[last], list):
                inside[last] = inside[last] * draw(st.sampled_from([2, 50, 1000]))
            case _:
                inside[last] = draw(VALUE)
        document = holder["document"]
    return document


def as_json(document):
    """The JSON text, with NaN and lone surrogates as Python writes them."""
    return json.dumps(document).encode()
