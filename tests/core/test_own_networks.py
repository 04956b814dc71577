"""The user's own networks: every parametrisation, device and dtype, checks, states of any shape."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import ggf_cli
from ggf_cli.adapters import device_of, weights_sha256
from ggf_cli.errors import EvalModeWarning, OutputError, SolveError, UsageError
from ggf_cli.networks.mixture import two_dimensional
from ggf_cli.parametrizations import exact
from ggf_cli.score import ScoreModel
from ggf_cli.sde import VESDE, VPSDE, SubVPSDE, expand_as_batch

SDES = {"vp": VPSDE(), "ve": VESDE(), "subvp": SubVPSDE()}
# What the wrapped network takes -> the time of such a label.
TIMES = {
    "t": lambda sde, label: label,
    "999t": lambda sde, label: label / 999,
    "sigma": lambda sde, label: sde.time_at(-torch.log(label)),
    "log_sigma/4": lambda sde, label: sde.time_at(-4 * label),
    "flow": lambda sde, label: sde.time_at(torch.log((1 - label) / label)),
}


def problem(name, sde):
    """A model whose score is exact, in float64."""
    if name == "mixture":
        model = ggf_cli.load_model("mixture", dtype=torch.float64, device="cpu")
        return replace(model, distribution=None)
    return ScoreModel(
        score=exact(two_dimensional().double(), sde), sde=sde, shape=(2,), dtype=torch.float64
    )


def prediction(model, kind, labels):
    """The exact network of a kind: its expectation of x0 and eps comes from the exact score."""
    sde = model.sde

    def network(y, label):
        t = TIMES[labels](sde, label)
        alpha, sigma = expand_as_batch(sde.alpha(t), y), expand_as_batch(sde.sigma(t), y)
        x = y * {"edm": alpha, "flow-matching": alpha + sigma}.get(kind, 1.0)
        noise = -sigma * model.score(x, t)
        data = (x - sigma * noise) / alpha
        return {
            "denoiser": data,
            "edm": data,
            "noise": noise,
            "v-prediction": alpha * noise - sigma * data,
            "flow-matching": noise - data,
        }[kind]

    return network


CONSTRUCTORS = {
    "denoiser": ScoreModel.from_denoiser,
    "edm": ScoreModel.from_edm,
    "noise": ScoreModel.from_noise,
    "v-prediction": partial(ScoreModel.from_velocity, convention="v-prediction"),
    "flow-matching": partial(ScoreModel.from_velocity, convention="flow-matching"),
}
USUAL = {"edm": "sigma", "flow-matching": "flow"}


def wrapped(model, kind, labels=None):
    options = {"sde": model.sde, "shape": list(model.shape), "dtype": torch.float64}
    if labels:
        options["labels"] = labels
    network = prediction(model, kind, labels or USUAL.get(kind, "t"))
    return CONSTRUCTORS[kind](network, **options)


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("kind", CONSTRUCTORS)
def test_every_parametrisation_gives_the_samples_of_the_score(kind, sde):
    native = problem("plane", SDES[sde])
    for solver, options in (("adaptive", {"eps_rel": 0.05}), ("heun", {"steps": 10})):
        ours = ggf_cli.sample(wrapped(native, kind), 6, solver=solver, **options)
        theirs = ggf_cli.sample(native, 6, solver=solver, **options)
        torch.testing.assert_close(ours.x, theirs.x, rtol=0, atol=1e-5)
        assert ours.nfe.tolist() == theirs.nfe.tolist()


@pytest.mark.parametrize("kind", CONSTRUCTORS)
def test_every_parametrisation_of_the_embedded_mixture(kind):
    native = problem("mixture", None)
    ours = ggf_cli.sample(wrapped(native, kind), 2, eps_rel=0.2)
    torch.testing.assert_close(ours.x, ggf_cli.sample(native, 2, eps_rel=0.2).x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("labels", TIMES)
@pytest.mark.parametrize("kind", CONSTRUCTORS)
def test_every_label_tells_the_time(kind, labels):
    native = problem("plane", SDES["vp"])
    x, t = torch.randn(4, 2, dtype=torch.float64), torch.tensor([1e-3, 0.1, 0.7, 1.0]).double()
    score = wrapped(native, kind, labels).score(x, t)
    torch.testing.assert_close(score, native.score(x, t), rtol=1e-6, atol=1e-6)


def test_labels_by_a_function_keep_integers():
    seen = []

    def noise(x, label):
        seen.append(label)
        return x

    model = ScoreModel.from_noise(
        noise, sde=VPSDE(), shape=(2,), labels=lambda t: (999 * t).round().long()
    )
    model.score(torch.zeros(2, 2), torch.tensor([1.0, 0.5]))
    assert seen[-1].dtype == torch.int64
    assert seen[-1].tolist() == [999, 500]


@pytest.mark.parametrize("kind", CONSTRUCTORS)
def test_float32_networks_agree(kind):
    """The arithmetic around a float32 network loses no more than float32 does."""
    sde = SDES["ve"]
    native = problem("plane", sde)
    model = CONSTRUCTORS[kind](
        lambda y, label: prediction(native, kind, USUAL.get(kind, "t"))(
            y.double(), label.double()
        ).float(),
        sde=sde,
        shape=(2,),
    )
    ours = ggf_cli.sample(model, 4, solver="heun", steps=10)
    theirs = ggf_cli.sample(native, 4, solver="heun", steps=10)
    torch.testing.assert_close(ours.x.double(), theirs.x, rtol=0, atol=2e-3)


# --- an ordinary module ---------------------------------------------------------------------------


class Ordinary(nn.Module):
    """A float32 network of a few lines, with dropout."""

    def __init__(self, dimensions=2):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dimensions + 1, 16), nn.Dropout(), nn.SiLU(), nn.Linear(16, dimensions)
        )

    def forward(self, x, t):
        return self.layers(torch.cat([x, t[:, None]], dim=1))


@pytest.mark.parametrize(
    "make",
    [
        lambda network: ScoreModel(score=network, sde=VPSDE(), shape=[2]),
        lambda network: ScoreModel.from_noise(network, sde=VPSDE(), shape=[2]),
        lambda network: ScoreModel.from_denoiser(network.forward, sde=VPSDE(), shape=(2,)),
        lambda network: ScoreModel.from_edm(partial(network), sde=VESDE(), shape=(2,)),
    ],
)
def test_an_ordinary_module_works(make):
    network = Ordinary()
    with pytest.warns(EvalModeWarning, match="Ordinary was in training mode") as warned:
        model = make(network)
    assert warned[0].filename == __file__
    assert not any(part.training for part in network.modules())
    assert torch.device(model.device) == torch.device("cpu")
    assert model.shape == (2,)
    result = ggf_cli.sample(model, 3, solver="em", steps=5)
    assert result.x.shape == (3, 2)
    assert result.x.dtype == torch.float32
    # The module is in eval mode and the model is complete: nothing is evaluated or warned of again.
    assert replace(model, name="other").score is model.score


def test_the_device_is_that_of_the_weights():
    network = Ordinary().eval()
    assert device_of(network) == torch.device("cpu")
    assert device_of(network.to("meta")) == torch.device("meta")
    assert device_of(two_dimensional().to("meta")) == torch.device("meta")
    for device in (None, "cpu"):
        for make in (ScoreModel.from_noise, lambda f, **k: ScoreModel(score=f, **k)):
            model = make(lambda x, t: -x, sde=VPSDE(), shape=(2,), device=device)
            assert model.device == "cpu"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, torch.float32),
        ({"dtype": torch.float64}, torch.float64),
        ({"dtype": torch.bfloat16, "time_dtype": torch.float32}, torch.float32),
        ({"time_dtype": torch.float64}, torch.float64),
    ],
)
def test_t_has_the_dtype_of_the_network_or_the_one_asked_for(settings, expected):
    seen = []

    def network(x, t):
        seen.append((x.dtype, t.dtype))
        return -x

    for make in (ScoreModel.from_noise, lambda f, **k: ScoreModel(score=f, **k)):
        model = make(network, sde=VPSDE(), shape=(2,), **settings)
        ggf_cli.sample(model, 2, solver="em", steps=2)
        assert seen[-1] == (settings.get("dtype", torch.float32), expected)


def test_t_has_float32_at_least_for_a_score_in_half_precision():
    """A function computes alpha and sigma from t; labels of a network are as precise as it is."""
    seen = []

    def network(x, t):
        seen.append(t.dtype)
        return -x

    half = {"sde": VPSDE(), "shape": (2,), "dtype": torch.bfloat16}
    for model, expected in (
        (ScoreModel(score=network, **half), torch.float32),
        (ScoreModel.from_noise(network, **half), torch.bfloat16),
    ):
        ggf_cli.sample(model, 2, solver="em", steps=2)
        assert seen[-1] == expected


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "kind", "message"),
    [
        (lambda x, t: x[:, :1], UsageError, r"expected .* of shape \(2, 3, 4\), as x"),
        (lambda x, t: x[:, :1], UsageError, r"returned torch.float32 of shape \(2, 1, 4\)"),
        (lambda x, t: x.long(), UsageError, "returned torch.int64 .* expected a floating-point"),
        (lambda x, t: (x,), UsageError, "returned a tuple, expected a floating-point tensor"),
        (lambda x, t: x * torch.nan, SolveError, "returned NaN or infinity for noise at t = 1,"),
        (lambda x, t: x / (t > 0.5)[:, None, None], SolveError, "at t = 0.001, expected finite"),
        (
            lambda x, t: x @ torch.ones(5, 5),
            UsageError,
            r"failed on x torch.float32 of shape \(2, 3, 4\) on cpu, t torch.float32 of shape",
        ),
    ],
)
def test_wrong_outputs_are_refused_with_what_was_expected(network, kind, message):
    with pytest.raises(kind, match=message):
        ScoreModel.from_noise(network, sde=VPSDE(), shape=(3, 4), name="mine")
    with pytest.raises(kind, match="the network of mine"):
        ScoreModel.from_velocity(
            network, convention="flow-matching", labels="t", sde=VPSDE(), shape=(3, 4), name="mine"
        )


class Bilinear(nn.Bilinear):
    def forward(self, x, t):
        return super().forward(x, t[:, None])


def test_the_hint_names_the_weights():
    with pytest.raises(UsageError) as refused:
        ScoreModel(score=Bilinear(3, 1, 3).double().eval(), sde=VPSDE(), shape=(3,))
    assert "its weights are torch.float64 on cpu" in refused.value.hint
    with pytest.raises(UsageError, match=r"expected a floating-point tensor of shape \(2, 3\)"):
        ScoreModel(score=Bilinear(3, 1, 1).eval(), sde=VPSDE(), shape=(3,))


@pytest.mark.parametrize("labels", ["sigmas", 3, None])
def test_unknown_labels_are_refused(labels):
    with pytest.raises(UsageError, match=r"labels is .* it must be one of t, 999t, sigma"):
        ScoreModel.from_noise(lambda x, t: x, sde=VPSDE(), shape=(2,), labels=labels)


@pytest.mark.parametrize("labels", [lambda t: 3, lambda t: t[:1]])
def test_labels_of_another_number_are_refused(labels):
    with pytest.raises(UsageError, match="a label for each t"):
        ScoreModel.from_noise(lambda x, t: x, sde=VPSDE(), shape=(2,), labels=labels)


def test_other_settings_are_checked():
    with pytest.raises(UsageError, match="it must be v-prediction or flow-matching"):
        ScoreModel.from_velocity(lambda x, t: x, convention="v", sde=VPSDE(), shape=(2,))
    for name in ("dtype", "time_dtype"):
        for make in (ScoreModel.from_noise, lambda f, **k: ScoreModel(score=f, **k)):
            with pytest.raises(UsageError, match=f"^{name} is torch.int64"):
                make(lambda x, t: x, sde=VPSDE(), shape=(2,), **{name: torch.int64})
    with pytest.raises(UsageError, match="shape of a sample"):
        ScoreModel.from_noise(lambda x, t: x, sde=VPSDE(), shape=(0,))


# --- states of any kind ---------------------------------------------------------------------------

SPOTS = torch.tensor([[3.0, 3.0], [-3.0, 3.0], [-3.0, -3.0], [3.0, -3.0]])


def spots(x, label):
    """E[x0 | x] of the four spots, under VP."""
    t = label.double()
    alpha, sigma = VPSDE().alpha(t)[:, None], VPSDE().sigma(t)[:, None]
    distance = (x.double()[:, None] - alpha[:, None] * SPOTS.double()).square().sum(2)
    return (torch.softmax(-distance / (2 * sigma**2), dim=1) @ SPOTS.double()).to(x.dtype)


@pytest.mark.parametrize("solver", ["adaptive", "adaptive-multistep", "ode-rk45", "em"])
def test_points_beyond_the_data_range_are_not_clamped(solver):
    model = ScoreModel.from_denoiser(spots, sde=VPSDE(), shape=(2,), data_range=None)
    result = ggf_cli.sample(model, 32, solver=solver)
    assert result.images is None
    nearest = torch.cdist(result.x, SPOTS).min(dim=1)
    assert nearest.values.max() < 0.05
    assert len(set(nearest.indices.tolist())) == 4
    assert all(f.image is None for f in ggf_cli.stream(model, 2, solver="em", steps=3))


def test_the_data_range_of_the_model_is_that_of_its_sde_or_replaces_it():
    make = partial(ScoreModel, score=lambda x, t: -x, shape=(2,))
    assert make(sde=VESDE()).data_range == (0.0, 1.0)
    own = make(sde=VPSDE(), data_range=[-4, 4])
    assert own.data_range == own.sde.data_range == (-4.0, 4.0)
    none = make(sde=VPSDE(data_range=(-4, 4)), data_range=None)
    assert none.data_range is None
    assert none.sde.eps_abs == 8 / 256
    assert replace(none, name="other").data_range is None
    with pytest.raises(UsageError, match="data_range is"):
        make(sde=VPSDE(), data_range=(1, 0))


@pytest.mark.parametrize("shape", [(2,), (1, 128), (3, 8, 8), (1, 4, 6, 8), (2, 2, 2, 2, 3)])
def test_states_of_any_rank(shape):
    model = ScoreModel(score=lambda x, t: -x, sde=VPSDE(), shape=shape, data_range=None)
    result = ggf_cli.sample(model, 3, solver="em", steps=3)
    assert result.x.shape == (3, *shape)
    assert result.images is None


def test_states_are_there_beside_images_and_of_samples_that_did_not_finish(mixture):
    result = ggf_cli.sample(mixture, 2, solver="em", steps=20)
    assert torch.equal(mixture.sde.to_unit_range(result.x), result.images)
    stopped = ggf_cli.sample(mixture, 2, max_nfe=3)
    assert stopped.images.isnan().all()
    assert stopped.x.isfinite().all()


def test_a_run_without_data_range_stores_states(tmp_path):
    model = ScoreModel(score=lambda x, t: -x, sde=VPSDE(), shape=(1, 8, 8), data_range=None)
    with pytest.raises(UsageError, match="are not images, since it has no data range"):
        ggf_cli.run(model, 2, out=tmp_path / "a", solver="em", steps=3)
    log = ggf_cli.run(model, 2, out=tmp_path / "b", solver="em", steps=3, format="npz").log
    assert log.model.images is False
    stored = np.load(tmp_path / "b/samples.npz")["images"]
    drawn = ggf_cli.sample(model, 2, solver="em", steps=3)
    assert np.array_equal(stored, drawn.x.numpy())
    assert not (tmp_path / "b/grid.png").exists()


def test_stream_takes_what_sample_takes(mixture):
    options = {"solver": "em", "steps": 4, "seed": 3, "batch_size": None, "max_nfe": 50}
    streamed = {f.index: f.x for f in ggf_cli.stream(mixture, range(4), **options)}
    sampled = ggf_cli.sample(mixture, range(4), **options)
    assert all(torch.equal(streamed[i], sampled.x[i]) for i in range(4))
    endless = ggf_cli.stream(mixture, iter(range(9)), solver="em", steps=2, batch_size=None)
    assert len(list(endless)) == 9
    with pytest.raises(UsageError, match="go with a solver's name"):
        ggf_cli.stream(mixture, 2, solver=ggf_cli.solvers.Adaptive(), eps_rel=0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda net: ScoreModel(score=net, sde=VPSDE(), shape=(2,), data_range=None),
        lambda net: ScoreModel.from_noise(net, sde=VPSDE(), shape=(2,), data_range=None),
        lambda net: ScoreModel.from_noise(
            lambda x, t: net(x, t), network=net, sde=VPSDE(), shape=(2,), data_range=None
        ),
    ],
    ids=["score", "module", "function"],
)
def test_a_run_is_not_resumed_with_other_weights(tmp_path, make):
    network = Ordinary().eval()
    settings = {"format": "npz", "solver": "em", "steps": 4, "out": tmp_path / "run"}
    log = ggf_cli.run(make(network), 2, **settings).log
    assert len(log.model.weights) == 64
    assert ggf_cli.run(make(network), 2, resume=True, **settings).log == log
    with torch.no_grad():
        next(network.parameters()).add_(1e-6)
    with pytest.raises(OutputError, match="the weights was"):
        ggf_cli.run(make(network), 2, resume=True, **settings)


def test_a_function_with_a_module_is_in_eval_mode():
    network = Ordinary()
    with pytest.warns(EvalModeWarning):
        ScoreModel(score=lambda x, t: network(x, t), network=network, sde=VPSDE(), shape=(2,))
    assert not network.training


def test_the_hash_of_weights_depends_on_names_types_and_values():
    module = torch.nn.Linear(2, 2)
    other = torch.nn.Sequential(module)
    assert weights_sha256(module) == weights_sha256(module.eval())
    found = {weights_sha256(module), weights_sha256(other)}
    found.add(weights_sha256(module.to(torch.bfloat16)))
    module.register_buffer("number", torch.tensor(1.0))
    found.add(weights_sha256(module))
    assert len(found) == 4


@pytest.mark.parametrize("sde", ["vp", None, VPSDE])
def test_an_sde_that_is_none_is_refused(sde):
    with pytest.raises(UsageError, match=r"sde is .*, it must be an SDE"):
        ScoreModel(score=lambda x, t: -x, sde=sde, shape=(2,))
    with pytest.raises(UsageError, match=r"sde is .*, it must be an SDE"):
        ScoreModel.from_noise(lambda x, t: x, sde=sde, shape=(2,))
