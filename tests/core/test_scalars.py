"""Every numeric argument with every type of number.

The result is that of the plain int or float, or an error that names the argument.
"""

import itertools
import json
import re
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

import ggf_cli
from command import ggf
from ggf_cli.batch_size import choose_batch_size
from ggf_cli.engine import Engine
from ggf_cli.errors import UsageError
from ggf_cli.metrics.evaluator import make_evaluators
from ggf_cli.pilot import freeze_schedule
from ggf_cli.runtime.precision import in_precision
from ggf_cli.scalars import MAX_INT, as_float, as_int
from ggf_cli.sde import SDES
from ggf_cli.solvers import make_solver
from ggf_cli.solvers.catalog import read_catalog
from problems import VP, gaussian_model, gaussian_score

SDE_CLASSES = {name: entry.load() for name, entry in SDES.items()}

INTS = [np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)]
TORCH_INTS = [
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
]
FLOATS = [np.float16, np.float32, np.float64, np.longdouble]
TORCH_FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

# Form -> function from an int to the same number of another type.
WHOLE = {
    "int": int,
    **{f"numpy-{dtype}": dtype.type for dtype in INTS},
    **{f"array-{dtype}": (lambda v, dtype=dtype: np.array(v, dtype)) for dtype in INTS},
    **{f"{dtype}": (lambda v, dtype=dtype: torch.tensor(v, dtype=dtype)) for dtype in TORCH_INTS},
    "array-object": lambda v: np.array(v, dtype=object),
    "array-big-endian": lambda v: np.array(v, ">i4"),
    "has-index": lambda v: type("Index", (), {"__index__": lambda self: v})(),
}
# Form -> function from a float to the nearest number of another type.
REAL = {
    "float": float,
    **{f"numpy-{np.dtype(dtype)}": dtype for dtype in FLOATS},
    **{f"array-{np.dtype(dtype)}": (lambda v, d=dtype: np.array(v, d)) for dtype in FLOATS},
    **{f"{dtype}": (lambda v, d=dtype: torch.tensor(v, dtype=d)) for dtype in TORCH_FLOATS},
    "requires-grad": lambda v: torch.tensor(v, requires_grad=True),
    "fraction": Fraction,
}
NO_NUMBERS = {
    "None": None,
    "True": True,
    "numpy-True": np.True_,
    "array-True": np.array(True),
    "tensor-True": torch.tensor(True),
    "nan": float("nan"),
    "tensor-nan": torch.tensor(torch.nan),
    "numpy-nan": np.float32("nan"),
    "text": "3",
    "bytes": b"3",
    "complex": 3j,
    "numpy-complex": np.complex64(3),
    "tensor-complex": torch.tensor(3 + 0j),
    "list": [3],
    "array-of-one": np.array([3]),
    "tensor-of-one": torch.tensor([3]),
    "tensor-of-one-float": torch.tensor([[3.0]]),
    "datetime": np.datetime64(3, "ns"),
    "timedelta": np.timedelta64(3, "ns"),
    "masked": np.ma.masked,
    "meta": torch.tensor(3, device="meta"),
    "decimal": Decimal(3),
    "dict": {},
    "object": object(),
}
NO_INTS = {
    **NO_NUMBERS,
    "3.0": 3.0,
    "numpy-3.0": np.float64(3),
    "tensor-3.0": torch.tensor(3.0),
    "2.5": 2.5,
    "inf": float("inf"),
    "fraction": Fraction(3),
    "huge": 10**5000,
}
NO_FLOATS = {**NO_NUMBERS, "inf": float("inf"), "huge": 10**5000, "numpy-inf": np.float32("inf")}

MODEL = gaussian_model(VP, shape=(2,))
EM = make_solver("em", {"steps": 2})
NEVER = ggf_cli.ScoreModel(score=lambda x, t: pytest.fail("evaluated"), sde=VP, shape=(2,))


def named(value):
    """The id of a test: without memory addresses, which differ between processes."""
    return repr(value).split(" at 0x")[0]


def drawn(indices, **options):
    """The result of `sample` as lists and numbers that can be compared."""
    result = ggf_cli.sample(MODEL, indices, solver="em", steps=2, **options)
    assert result.index.dtype == result.nfe.dtype == torch.int64
    return result.index.tolist(), result.images.tolist(), result.nfe.tolist(), result.batch_size


def streamed(indices, **options):
    samples = ggf_cli.stream(MODEL, indices, solver=EM, **options)
    found = sorted((sample.index, sample.image.tolist(), sample.nfe) for sample in samples)
    assert all(type(index) is int for index, _, _ in found)
    return found


def engine(**options):
    made = Engine(MODEL, make_solver("em"), **options)
    return made.seed, made.batch_size, made.max_nfe


def at_once(v):
    engine = Engine(MODEL, make_solver("em", {"steps": 2}))
    return [sample.x.tolist() for sample in engine.run(range(6), at_once=v)], engine.progress


# Argument -> (function to call with it, its name in the error message).
WHOLE_ARGUMENTS = {
    "sample-count": (drawn, "number of samples"),
    "sample-index": (lambda v: drawn([v]), "sample index"),
    "sample-seed": (lambda v: drawn(2, seed=v), "seed"),
    "sample-batch-size": (lambda v: drawn(4, batch_size=v), "batch size"),
    "sample-max-nfe": (lambda v: drawn(2, max_nfe=v), "max NFE"),
    "stream-count": (streamed, "number of samples"),
    "stream-index": (lambda v: streamed([v]), "sample index"),
    "stream-seed": (lambda v: streamed(2, seed=v), "seed"),
    "stream-batch-size": (lambda v: streamed(4, batch_size=v), "batch size"),
    "stream-max-nfe": (lambda v: streamed(2, max_nfe=v), "max NFE"),
    "engine-seed": (lambda v: engine(seed=v), "seed"),
    "engine-batch-size": (lambda v: engine(batch_size=v), "batch size"),
    "engine-max-nfe": (lambda v: engine(max_nfe=v), "max NFE"),
    "engine-at-once": (at_once, "at_once"),
    "pilot-samples": (
        lambda v: freeze_schedule(MODEL, make_solver("adaptive-multistep", {"eps_rel": 1.0}), v),
        "pilot",
    ),
    "pilot-seed": (
        lambda v: freeze_schedule(
            MODEL, make_solver("adaptive-multistep", {"eps_rel": 1.0}), 1, seed=v
        ),
        "seed",
    ),
    "pilot-batch-size": (
        lambda v: freeze_schedule(
            MODEL, make_solver("adaptive-multistep", {"eps_rel": 1.0}), 1, batch_size=v
        ),
        "batch size",
    ),
    "model-shape": (lambda v: gaussian_model(VP, (v, 2)).shape, "shape"),
    "automatic-batch-size": (lambda v: choose_batch_size(MODEL, v), "number of samples"),
}
COUNTS = {"sample-count", "stream-count"}
OPTIONAL = {argument for argument in WHOLE_ARGUMENTS if argument.endswith(("max-nfe", "at-once"))}
OPTIONAL |= {"sample-batch-size", "stream-batch-size", "pilot-batch-size"}
REAL_ARGUMENTS = {
    **{
        f"{name}-{field}": ((lambda v, sde=sde, field=field: sde(**{field: v})), field)
        for name, sde in SDE_CLASSES.items()
        for field in (field.name for field in fields(sde))
        if field != "data_range"
    },
    "data-range-low": (lambda v: ggf_cli.VPSDE(data_range=(v, 9)), "data_range"),
    "data-range-high": (lambda v: ggf_cli.VPSDE(data_range=[-9, v]), "data_range"),
}


def as_plain(value):
    return float(value.detach() if isinstance(value, torch.Tensor) else value)


def assert_refused(call, value, form, name):
    """Check that a value is refused with a short message that names the argument."""
    with pytest.raises(UsageError) as refused:
        pytest.fail(f"{form} was taken: {call(value)}")
    message = refused.value.message
    assert re.search(name, message), (form, message)
    assert len(message) < 300, form


@pytest.mark.parametrize("argument", WHOLE_ARGUMENTS)
def test_a_whole_number_of_any_type_is_that_number(argument):
    call, _ = WHOLE_ARGUMENTS[argument]
    plain = call(3)
    for form, make in WHOLE.items():
        assert call(make(3)) == plain, form


@pytest.mark.parametrize("argument", WHOLE_ARGUMENTS)
def test_other_values_than_whole_numbers_are_refused_by_name(argument):
    call, name = WHOLE_ARGUMENTS[argument]
    for form, value in NO_INTS.items():
        if argument in COUNTS and isinstance(value, str | bytes | list | dict):
            # A sequence of sample indices, which is tested below.
            continue
        if argument in COUNTS and np.ndim(value):
            continue
        if value is not None or argument not in OPTIONAL:
            assert_refused(call, value, form, name)


@pytest.mark.parametrize("argument", REAL_ARGUMENTS)
def test_a_real_number_of_any_type_is_that_number(argument):
    call, _ = REAL_ARGUMENTS[argument]
    for form, make in REAL.items():
        value = make(0.3)
        sde, plain = call(value), call(as_plain(value))
        assert sde == plain, form
        assert hash(sde) == hash(plain), form
        assert json.dumps(sde.to_dict()) == json.dumps(plain.to_dict()), form


@pytest.mark.parametrize("argument", REAL_ARGUMENTS)
def test_other_values_than_real_numbers_are_refused_by_name(argument):
    call, name = REAL_ARGUMENTS[argument]
    for form, value in NO_FLOATS.items():
        # The t_eps of EDM is sigma_min by default.
        if value is not None or argument != "edm-t_eps":
            assert_refused(call, value, form, name)


# --- options of solvers ---------------------------------------------------------------------------

OPTIONS = [
    pytest.param(solver, name, about, id=f"{solver}-{name}")
    for solver, entry in read_catalog().items()
    for name, about in entry.options.items()
]


def value_of(about):
    """A value in range that every numeric type can hold."""
    if about.type == "float":
        return about.default or 0.3
    return min(about.high, 100)


@pytest.mark.parametrize(("solver", "option", "about"), OPTIONS)
def test_options_of_solvers_take_numbers_of_any_type(solver, option, about):
    def made(value):
        return make_solver(solver, {option: value})

    if about.type == "int":
        pairs = [(form(value_of(about)), value_of(about)) for form in WHOLE.values()]
    elif about.type == "float":
        given = [form(value_of(about)) for form in REAL.values()]
        pairs = [(value, as_plain(value)) for value in given] + [(np.int8(1), 1.0), (1, 1.0)]
    elif about.type == "bool":
        forms = (bool, np.bool_, np.array, torch.tensor)
        pairs = [(form(value), value) for form in forms for value in (True, False)]
    elif about.type == "numbers":
        forms = (tuple, list, np.array, torch.tensor, lambda v: ",".join(map(str, v)))
        pairs = [(form([1.0, 0.5]), (1.0, 0.5)) for form in forms]
    else:
        text = (about.choices or [about.default])[-1]
        pairs = [(text, text), (np.str_(text), text)]
    for value, plain in pairs:
        kept = getattr(made(value), option)
        assert type(kept) is type(plain)
        assert kept == plain
        assert made(value) == made(plain)
        assert hash(made(value)) == hash(made(plain))
        assert json.dumps(made(value).options()) == json.dumps(made(plain).options())


@pytest.mark.parametrize(("solver", "option", "about"), OPTIONS)
def test_options_of_solvers_refuse_values_of_other_types(solver, option, about):
    kinds = {"int": NO_INTS, "float": NO_FLOATS, "bool": NO_NUMBERS}
    bad = dict(kinds.get(about.type, {}))
    if about.type == "bool":
        bad = {form: value for form, value in bad.items() if not form.endswith("True")}
        bad |= {"0": 0, "1": 1, "numpy-1": np.int8(1), "word": "yes"}
    elif about.type == "text":
        bad |= {
            "3": 3,
            "True": True,
            "bytes": b"l2",
            "list": ["l2"],
            "array": np.array(["l2"]),
            "None": None,
        }
    elif about.type == "numbers":
        bad = {f"list of {form}": [1.0, value] for form, value in NO_FLOATS.items()}
        bad |= {"3": 3, "True": True, "bytes": b"1,0.5", "word": "x", "None": None}
        bad |= {"empty": [], "increasing": (0.5, 1.0), "matrix": np.ones((2, 2))}
    if about.default is None:
        del bad["None"]
    for form, value in bad.items():
        assert_refused(lambda v: make_solver(solver, {option: v}), value, form, option)


def test_samples_by_an_option_of_another_type_are_the_same_to_the_bit():
    plain = ggf_cli.sample(MODEL, 3, solver="adaptive", eps_rel=float(np.float32(0.1)))
    for value in (np.float32(0.1), torch.tensor(0.1), np.array(0.1, np.float32)):
        assert torch.equal(ggf_cli.sample(MODEL, 3, eps_rel=value).images, plain.images)
    model = ggf_cli.ScoreModel(
        score=gaussian_score(VP), sde=VP, shape=(2,), recommended={"snr": np.float32(0.1)}
    )
    assert Engine(model, make_solver("pc")).solver.snr == float(np.float32(0.1))


# --- sample indices -------------------------------------------------------------------------------

WANTED = [5, 0, 7, 100]
# Form -> function from a list of indices to the same indices in another form.
INDICES = {
    "tuple": tuple,
    "generator": lambda v: (index for index in v),
    "map": lambda v: map(np.int16, v),
    "dict": dict.fromkeys,
    "keys": lambda v: dict.fromkeys(v).keys(),
    **{f"array-{dtype}": (lambda v, d=dtype: np.array(v, d)) for dtype in INTS},
    **{f"list-{dtype}": (lambda v, d=dtype: [d.type(i) for i in v]) for dtype in INTS},
    **{f"arrays-{dtype}": (lambda v, d=dtype: [np.array(i, d) for i in v]) for dtype in INTS},
    **{f"{dtype}": (lambda v, d=dtype: torch.tensor(v, dtype=d)) for dtype in TORCH_INTS},
    "tensors": lambda v: [torch.tensor(index, dtype=torch.int32) for index in v],
    "array-object": lambda v: np.array(v, dtype=object),
    "array-strided": lambda v: np.array([v, v]).T[:, 0],
    "iter-of-tensor": lambda v: iter(torch.tensor(v, dtype=torch.int16)),
}
NO_INDICES = {
    "floats": [0.0, 1.0],
    "float-array": np.arange(3.0),
    "float-tensor": torch.arange(3.0),
    "mask": np.array([True, False]),
    "mask-tensor": torch.tensor([True, False]),
    "text": "12",
    "bytes": b"12",
    "bytearray": bytearray(b"12"),
    "words": ["1", "2"],
    "None": [0, None],
    "matrix": np.zeros((2, 2), int),
    "matrix-tensor": torch.zeros(2, 2, dtype=torch.int64),
    "rows": [[0, 1], [2, 3]],
    "dates": np.array([1, 2], "M8[ns]"),
    "spans": np.array([1, 2], "m8[ns]"),
    "complex": np.array([1j]),
    "masked": np.ma.array([1, 2], mask=[False, True]),
    "meta": torch.arange(2, device="meta"),
    "negative": [3, -1],
    "negative-range": range(3, -2, -1),
    "too-large": [1, 2**63],
    "too-large-range": range(2**63 - 2, 2**63 + 1),
    "too-large-uint64": np.array([1, 2**63], np.uint64),
    "count-negative": -1,
    "count-float": 4.0,
    "nothing": None,
}


@pytest.mark.parametrize("draw", [drawn, streamed])
def test_sample_indices_of_any_kind_are_the_same_samples(draw):
    plain = draw(WANTED)
    for kind, make in INDICES.items():
        assert draw(make(WANTED)) == plain, kind


@pytest.mark.parametrize("draw", [ggf_cli.sample, ggf_cli.stream])
def test_invalid_indices_are_refused_before_anything_is_drawn(draw):
    for kind, indices in NO_INDICES.items():
        assert_refused(lambda v: draw(NEVER, v), indices, kind, r"sample ind|number of samples")


@pytest.mark.parametrize(
    "twice", [[1, 2, 1], np.array([1, 1], np.uint8), [1, np.int8(1)], iter([torch.tensor(4), 4])]
)
def test_a_repeated_index_is_refused_whatever_its_type(twice):
    with pytest.raises(UsageError, match=r"sample index \d is asked for twice"):
        ggf_cli.sample(NEVER, twice)


@pytest.mark.parametrize("nothing", [0, [], range(0), np.array([], int), torch.tensor(0), iter(())])
def test_an_empty_request_is_refused_by_sample_and_gives_an_empty_stream(nothing):
    with pytest.raises(UsageError, match="no samples asked for"):
        ggf_cli.sample(NEVER, nothing)
    assert list(ggf_cli.stream(NEVER, nothing)) == []


@pytest.mark.parametrize(
    "last", [MAX_INT, np.uint64(MAX_INT), np.int64(MAX_INT), torch.tensor(MAX_INT)]
)
def test_the_largest_index_and_seed_can_be_drawn(last):
    assert drawn([last], seed=last) == drawn([MAX_INT], seed=MAX_INT)
    assert drawn([last])[0] == [MAX_INT]
    assert drawn([last])[1] != drawn([MAX_INT - 1])[1]


def test_the_indices_of_a_stream_are_checked_one_by_one():
    endless = ggf_cli.stream(MODEL, map(np.int16, itertools.count()), solver=EM, batch_size=4)
    first = [next(endless) for _ in range(9)]
    assert sorted(sample.index for sample in first) == list(range(9))

    broken = ggf_cli.stream(MODEL, iter([0, 1, "2"]), solver=EM, batch_size=1)
    assert [next(broken).index, next(broken).index][0] == 0
    with pytest.raises(UsageError, match="sample index is '2'"):
        next(broken)


# --- shapes, data ranges, dtypes, devices ---------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        [3, 4],
        torch.Size([3, 4]),
        torch.tensor([3, 4]),
        np.zeros((3, 4)).shape,
        (np.int8(3), torch.tensor(4)),
        *(np.array([3, 4], dtype) for dtype in INTS),
    ],
    ids=named,
)
def test_shapes_of_any_kind_are_tuples_of_ints(shape):
    model = ggf_cli.ScoreModel(score=lambda x, t: x, sde=VP, shape=shape)
    assert type(model.shape) is tuple
    assert model.shape == (3, 4)
    assert [type(size) for size in model.shape] == [int, int]


@pytest.mark.parametrize(
    "data_range",
    [
        [-1.0, 2.0],
        (-1, 2),
        np.array([-1, 2]),
        np.array([-1, 2], np.float16),
        torch.tensor([-1.0, 2.0]),
        [np.float32(-1), torch.tensor(2)],
        range(-1, 3, 3),
    ],
    ids=named,
)
@pytest.mark.parametrize("sde", SDE_CLASSES.values())
def test_data_ranges_of_any_kind_are_two_floats(sde, data_range):
    made = sde(data_range=data_range)
    assert made == sde(data_range=(-1.0, 2.0))
    assert [type(end) for end in made.data_range] == [float, float]
    assert hash(made) == hash(sde(data_range=(-1.0, 2.0)))


@pytest.mark.parametrize(
    "data_range",
    [
        None,
        1,
        (1,),
        (0, 1, 2),
        "01",
        b"01",
        {0, 1},
        [[0, 1]],
        np.zeros((2, 2)),
        np.array([0, np.nan]),
        (0, float("inf")),
        (1, 1),
        ("0", "1"),
        (False, True),
        iter((0, 1)),
    ],
    ids=named,
)
def test_invalid_data_ranges_are_refused(data_range):
    with pytest.raises(UsageError, match="data_range is"):
        ggf_cli.VPSDE(data_range=data_range)


@pytest.mark.parametrize("dtype", [np.float32, "float32", None, float, torch.int64])
def test_invalid_dtypes_are_refused(dtype):
    with pytest.raises(UsageError, match="dtype is"):
        ggf_cli.ScoreModel(score=None, sde=VP, shape=(2,), dtype=dtype)


@pytest.mark.parametrize("device", [1.5, True, None, [0], "gpu"], ids=named)
def test_invalid_devices_are_refused(device):
    with pytest.raises(UsageError, match="is not a device"):
        ggf_cli.load_model("mixture", device=device)


def test_an_invalid_tolerance_is_refused_when_precision_is_chosen():
    for form, finest in {**NO_NUMBERS, "0": 0, "-1": -1.0}.items():
        assert_refused(lambda v: in_precision(MODEL, "auto", v), finest, form, "finest is")
    assert in_precision(MODEL, "auto", np.float32(1e-4)).precision == "fp32"


def test_a_float32_keeps_its_exact_value():
    assert as_float(np.float32(0.1), "x") == 0.10000000149011612
    assert as_float(torch.tensor(0.1), "x") == 0.10000000149011612


def test_messages_name_the_argument_the_value_and_what_is_allowed():
    with pytest.raises(UsageError) as refused:
        as_int(np.float32(3), "seed")
    assert refused.value.message == (
        f"seed is {np.float32(3)!r}, it must be a whole number (an int) and >= 0 and <= 2^63 - 1"
    )
    with pytest.raises(UsageError, match=r"eps is 2, it must be a finite number and > 0 and <= 1$"):
        as_float(2, "eps", above=0, high=1)


class Counting:
    """A reference that checks the types of its arguments."""

    def draws(self, n, draws, against):
        assert (type(n), type(draws)) == (int, int)
        self.mean = torch.full((draws,), float(n), dtype=torch.float64)
        return iter([(torch.zeros(n, draws), self)])

    def moments(self):
        return self.mean, torch.zeros(len(self.mean), len(self.mean), dtype=torch.float64)

    def draw_description(self, n, against):
        return str(n)


@pytest.mark.parametrize("argument", ["n", "draws"])
def test_floors_take_whole_numbers_of_any_type(argument, monkeypatch):
    (evaluator,) = make_evaluators(["frechet"], ggf_cli.load_model("mixture", device="cpu"))
    monkeypatch.setattr(evaluator.features.space, "reference", Counting())

    def floor(v):
        return evaluator.floor(**{"n": 100, "draws": 100, argument: v})

    for form, make in WHOLE.items():
        assert floor(make(120)) == floor(120), form
    for form, value in NO_INTS.items():
        assert_refused(floor, value, form, f"{argument} is")


@pytest.mark.gpu
def test_tensors_on_a_gpu_are_taken_as_numbers():
    wanted = torch.tensor(WANTED, dtype=torch.int32, device="cuda")
    expected = drawn(WANTED, seed=5, batch_size=7)
    assert drawn(wanted, seed=wanted[0], batch_size=wanted[2]) == expected
    assert ggf_cli.VPSDE(data_range=wanted[1:3]) == ggf_cli.VPSDE(data_range=(0, 7))


# --- the command line -----------------------------------------------------------------------------


def test_the_command_line_takes_the_indices_that_python_takes(tmp_path, mixture):
    words = ["sample", "-m", "mixture", "--solver", "em", "--steps", "2", "--format", "npz"]
    words += ["--quiet", "--batch-size", "2"]
    words += ["--indices", f"{MAX_INT - 1}-{MAX_INT},3", "--seed", str(MAX_INT)]
    done = ggf(*words, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "run/samples.npz") as file:
        index, images = file["index"], file["images"]
    assert index.tolist() == [3, MAX_INT - 1, MAX_INT]
    wanted = ggf_cli.sample(mixture, index, solver="em", steps=2, seed=MAX_INT, batch_size=2)
    levels = (wanted.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert torch.equal(torch.from_numpy(images), levels)
    log = json.loads((tmp_path / "run/run.json").read_text())
    assert log["indices"] == f"{MAX_INT - 1}-{MAX_INT},3"
    assert log["seed"] == MAX_INT


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0-9223372036854775807", "more than 10,000,000 samples"),
        ("1-9223372036854775807,5", "more than 10,000,000 samples"),
        ("9223372036854775808", "the largest index is 9223372036854775807"),
        ("0-9223372036854775808", "the largest index is 9223372036854775807"),
        ("9" * 5000, "the largest index is 9223372036854775807"),
        ("0-" + "9" * 100_000, "the largest index is 9223372036854775807"),
        ("9223372036854775807-0", "runs backwards"),
        ("0-9223372036854775807x", "not a number or a range"),
        ("-1", "not a number or a range"),
        ("٣", "not a number or a range"),
    ],
    ids=lambda text: text[:30],
)
def test_indices_that_cannot_be_drawn_are_refused_with_the_reason(text, reason):
    from ggf_cli.cli.values import parse_indices

    with pytest.raises(UsageError, match=reason) as refused:
        parse_indices(text)
    assert len(refused.value.message) < 300


def test_leading_zeros_are_ignored():
    from ggf_cli.cli.values import parse_indices

    assert parse_indices("0" * 30 + "7, 000-001") == [7, 0, 1]


def test_the_indices_of_pilot_samples_are_refused(tmp_path):
    words = ["sample", "-m", "mixture", "--solver", "adaptive-multistep", "--pilot", "2", "--quiet"]
    for index, code in ((2**62 - 1, 0), (2**62, 2), (2**62 + 1, 2), (2**62 + 2, 0)):
        arguments = [*words, "--indices", str(index), "--out", str(tmp_path / str(index))]
        assert ggf(*arguments).exit_code == code, index
