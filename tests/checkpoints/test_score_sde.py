"""Files of score_sde_pytorch, over a grid of its configurations.

Each file is read correctly, refused, or read with a warning that names each setting that may be
wrong.
"""

import itertools
from dataclasses import asdict, replace
from functools import cache
from types import SimpleNamespace

import pytest
import torch

from ggf_cli.checkpoints import score_sde
from ggf_cli.checkpoints.load import build
from ggf_cli.checkpoints.score_sde import training
from ggf_cli.checkpoints.score_sde.published import PUBLISHED as PUBLISHED_NAMES
from ggf_cli.checkpoints.score_sde.published import NoiseLevels
from ggf_cli.checkpoints.score_sde.recognise import recognise
from ggf_cli.checkpoints.score_sde.structure import Structure
from ggf_cli.checkpoints.score_sde.training import settle
from ggf_cli.checkpoints.settings import as_config
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.networks.ncsnpp import NCSNpp, NCSNppConfig
from ggf_cli.networks.unet import UNet
from ggf_cli.noise import Noise
from ggf_cli.parametrizations import PARAMETRIZATIONS, log_snr_table
from ggf_cli.sde import VESDE, VPSDE, SubVPSDE
from song_files import VE, SongConfig, shapes, sigmas, write
from song_recordings import DISCRETE, song_file

VP = SongConfig()
LSUN = replace(
    VE,
    progressive="output_skip",
    progressive_input="input_skip",
    ch_mult=(1, 1, 2, 2, 2, 2, 2),
    num_res_blocks=2,
    image_size=256,
    sigma_max=380.0,
    num_scales=2000,
)
PUBLISHED = {
    "vp": VP,
    "subvp": replace(VP, sde="subvpsde"),
    "vp-discrete": replace(VP, continuous=False),
    "vp-residual": replace(VP, fir=True, progressive_input="residual"),
    "ddpm": replace(
        VP, name="ddpm", resblock_type="ddpm", nf=128, num_res_blocks=2, skip_rescale=False
    ),
    "ve": VE,
    "ve-discrete": replace(VE, embedding_type="positional", continuous=False),
    "lsun": LSUN,
}


# --- expected values ------------------------------------------------------------------------------


def structure_of(c):
    """The expected structure: the part of a configuration that determines names and shapes."""
    several = len(c.ch_mult) > 1
    named = several and (c.resblock_type == "ddpm" or c.progressive_input == "residual")
    return Structure(
        image_channels=c.num_channels,
        channels=tuple(c.nf * m for m in c.ch_mult),
        attention=tuple(c.image_size // 2**i in c.attn_resolutions for i in range(len(c.ch_mult))),
        blocks=c.num_res_blocks,
        embedding=c.embedding_type,
        resblock=c.resblock_type,
        progressive=c.progressive if several else "none",
        progressive_input=c.progressive_input if several else "none",
        fir=c.fir if named else None,
    )


def unreadable(c):
    """Whether ggf does not support a configuration, with any `--config`."""
    several = len(c.ch_mult) > 1
    return (
        not c.conditional
        or c.progressive == "residual"
        or (several and c.resblock_type == "ddpm" and (c.fir or not c.resamp_with_conv))
        or (several and c.progressive_input == "residual" and not c.fir)
        or (several and c.progressive_input == "input_skip" and c.progressive_combine == "cat")
    )


def kind_of(c):
    """The value of the setting sde."""
    name = {"vesde": "ve", "vpsde": "vp", "subvpsde": "subvp"}[c.sde]
    # Sub-VP always has continuous labels, also in Song's code.
    return name if c.continuous or name == "subvp" else f"{name}-discrete"


def settings_of(c):
    """All settings of a configuration that --config can give."""
    keys = ("image_size", "fir", "skip_rescale", "scale_by_sigma", "centered", "nonlinearity")
    given = {"sde": kind_of(c), **{key: getattr(c, key) for key in keys}}
    if c.fir:
        given["fir_kernel"] = "1-3-3-1"
    if c.resblock_type == "ddpm" and c.nf < 128:
        given["model"] = c.name
    if c.sde != "vesde":
        given |= {"beta_min": c.beta_min, "beta_max": c.beta_max}
    return given


def sde_of(c):
    data_range = (-1.0, 1.0) if c.centered else (0.0, 1.0)
    if c.sde == "vesde":
        return VESDE(sigma_min=c.sigma_min, sigma_max=c.sigma_max, data_range=data_range)
    cls = VPSDE if c.sde == "vpsde" else SubVPSDE
    return cls(beta_min=c.beta_min, beta_max=c.beta_max, data_range=data_range)


def differences(c, network, sde, parametrization, size):
    """Names of the settings that were read differently from the configuration."""
    wrong = set()
    truth = asdict(structure_of(c)) | {
        "fir": c.fir,
        "skip_rescale": c.skip_rescale,
        "centered": c.centered,
        "scale_by_sigma": c.scale_by_sigma,
    }
    # This parametrization divides by sigma itself.
    if parametrization == "ve-discrete":
        truth["scale_by_sigma"] = not c.scale_by_sigma
    if len(c.ch_mult) == 1:
        truth["fir"] = network["fir"]
    wrong |= {key for key, value in truth.items() if network[key] != value}
    kinds = {"ve": "ve-continuous", "vp": "vp-continuous", "subvp": "vp-continuous"}
    true_sde = sde_of(c)
    if (sde.name, parametrization) != (true_sde.name, kinds.get(kind_of(c), kind_of(c))):
        wrong.add("sde")
    else:
        keys = ("sigma_min", "sigma_max", "beta_min", "beta_max")
        wrong |= {key for key in keys if getattr(sde, key, 0) != getattr(true_sde, key, 0)}
    if sde.data_range != true_sde.data_range:
        wrong.add("centered")
    if size != c.image_size:
        wrong.add("image_size")
    if parametrization.endswith("-discrete") and c.num_scales != 1000:
        # ggf's labels of a discrete model go up to 999.
        wrong.add("num_scales")
    if c.nonlinearity != "swish":
        wrong.add("nonlinearity")
    if c.resblock_type == "ddpm" and c.nf < 128:
        # The class ddpm has no narrower networks.
        of_ddpm = c.name == "ddpm" and c.nf % 32 == 0
        wrong |= {"model"} if of_ddpm != (network.get("groups") == "ddpm") else set()
    return wrong


# --- recognition ----------------------------------------------------------------------------------


def tensors_of(c):
    return {name: SimpleNamespace(shape=shape) for name, shape in shapes(c).items()}


KINDS = list(
    itertools.product(
        ("fourier", "positional"),
        ("biggan", "ddpm"),
        ("none", "output_skip", "residual"),
        ("none", "input_skip", "residual"),
    )
)


@pytest.mark.parametrize(("embedding", "resblock", "progressive", "progressive_input"), KINDS)
def test_names_and_shapes_are_read_back_to_their_configuration_or_refused(
    embedding, resblock, progressive, progressive_input
):
    """Over widths, levels, blocks, attention and FIR, with and without unsupported settings."""
    read = refused = 0
    for mult, blocks, attention, fir, off in itertools.product(
        ((1,), (1, 2), (2, 1, 3)),
        (1, 2),
        ((16,), (32,), (), (16, 8), (32, 16)),
        (True, False),
        ({}, {"conditional": False}, {"resamp_with_conv": False}, {"progressive_combine": "cat"}),
    ):
        c = SongConfig(
            embedding_type=embedding,
            resblock_type=resblock,
            progressive=progressive,
            fir=fir,
            progressive_input=progressive_input,
            ch_mult=mult,
            num_res_blocks=blocks,
            attn_resolutions=attention,
            **off,
        )
        try:
            structure = recognise(tensors_of(c))
        except CheckpointError:
            assert unreadable(c), c
            refused += 1
            continue
        assert structure == structure_of(c), c
        with torch.device("meta"):
            settings = {"fir": c.fir, "skip_rescale": True, "centered": True}
            if unreadable(c):
                with pytest.raises(CheckpointError):
                    NCSNpp(**asdict(structure) | settings)
                continue
        read += 1
    assert refused
    assert read or progressive == "residual"


# --- settings that the file does not state --------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def registry():
    """The registry, read once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "read_manifest", cache(training.read_manifest))
        yield


def understand(c, config):
    """The training settings of a configuration, read from names, shapes and `--config`."""
    structure = recognise(tensors_of(c))
    levels = NoiseLevels(round(c.sigma_min, 6), round(c.sigma_max, 6), c.num_scales)
    training = settle(structure, levels, config)
    # This raises an error if the configuration is not supported.
    NCSNppConfig(**training.network_config())
    return training


def wrong_in(c, training):
    return differences(
        c,
        training.network_config(),
        training.sde(),
        training.parametrization,
        training.settings["image_size"],
    )


# Changes of one setting, or of two that depend on each other.
VARIATIONS = [
    {"sde": "vpsde", "continuous": True},
    {"sde": "vpsde", "continuous": False},
    {"sde": "subvpsde", "continuous": True},
    {"sde": "vesde", "continuous": True},
    {"sde": "vesde", "continuous": False},
    {"image_size": 64, "attn_resolutions": (16,)},
    {"image_size": 64, "attn_resolutions": (32,)},
    {"image_size": 128, "attn_resolutions": (8,)},
    {"image_size": 32, "attn_resolutions": (16, 8)},
    {"attn_resolutions": ()},
    {"nf": 16},
    {"nf": 64},
    {"ch_mult": (1, 2, 2)},
    {"ch_mult": (1,)},
    {"num_res_blocks": 1},
    {"num_res_blocks": 8},
    {"fir": True},
    {"fir": False},
    {"resblock_type": "ddpm"},
    {"progressive": "output_skip"},
    {"progressive_input": "input_skip"},
    {"progressive_input": "residual"},
    {"progressive_input": "none"},
    {"embedding_type": "fourier"},
    {"embedding_type": "positional"},
    {"skip_rescale": False},
    {"scale_by_sigma": False},
    {"scale_by_sigma": True},
    {"centered": False},
    {"centered": True},
    {"nonlinearity": "elu"},
    {"beta_max": 10.0},
    {"beta_min": 0.05},
    {"sigma_max": 90.0},
    {"sigma_min": 0.02},
    {"num_scales": 500},
    {"num_channels": 1},
]


def configurations(name):
    """A published configuration with each variation, and with one eighth of all pairs of them."""
    base, turn = PUBLISHED[name], list(PUBLISHED).index(name)
    pairs = enumerate(itertools.combinations(VARIATIONS, 2))
    chosen = [{**first, **second} for i, (first, second) in pairs if i % len(PUBLISHED) == turn]
    for changes in [{}, *VARIATIONS, *chosen]:
        yield replace(base, **changes)


def trainable(c):
    """Whether score_sde_pytorch can train a configuration.

    Fourier features require continuous labels; a positional embedding requires other labels than
    the continuous VE ones. The class ddpm has 32 groups, and divides no sums.
    """
    if c.name == "ddpm" and (c.nf % 32 or c.skip_rescale or c.resblock_type != "ddpm"):
        return False
    if c.embedding_type == "fourier":
        return c.continuous
    return kind_of(c) != "ve" and c.scale_by_sigma == (kind_of(c) == "ve-discrete")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_configuration_is_read_correctly_or_refused_or_warned_about(name):
    """The warning names each wrong setting: without --config, with SDE, and with SDE and size."""
    right = warned = refused = 0
    for c in configurations(name):
        kind = kind_of(c)
        for config in (None, f"sde={kind}", f"sde={kind},image_size={c.image_size}"):
            try:
                training = understand(c, config)
            except (CheckpointError, UsageError):
                refused += 1
                continue
            wrong = wrong_in(c, training)
            [sentence] = training.assumptions("a.pth")
            assert wrong <= set(training.assumed), (c, config, wrong)
            assert all(f"{key}=" in sentence for key in wrong), (c, config, sentence)
            right, warned = right + (not wrong), warned + bool(wrong)
    assert right
    assert warned
    assert refused


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_configuration_given_in_full_is_read_correctly_or_refused(name):
    """Then nothing is assumed, and no supported configuration is refused."""
    read = refused = 0
    for c in configurations(name):
        try:
            training = understand(c, as_config(settings_of(c)))
        except (CheckpointError, UsageError):
            few = kind_of(c).endswith("-discrete") and c.num_scales != 1000
            assert unreadable(c) or not trainable(c) or few or c.nonlinearity != "swish", c
            refused += 1
            continue
        assert training.assumed == (), c
        assert not wrong_in(c, training), c
        read += 1
    assert read
    assert refused


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_positional_network_is_never_read_without_its_sde(name):
    c = PUBLISHED[name]
    if c.embedding_type == "fourier":
        assert "sde=ve," in understand(c, None).assumptions("a.pth")[0]
    else:
        with pytest.raises(CheckpointError, match="does not state the sde"):
            understand(c, None)


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("name", ["vp", "ve"])
def test_an_unpublished_structure_needs_the_image_size(name, size):
    """Attention at 16x16 is on a deeper level than in published models; the hint has the size."""
    c = replace(PUBLISHED[name], image_size=size, ch_mult=(1, 1, 2, 2, 2))
    with pytest.raises(CheckpointError, match="does not state the image_size") as error:
        understand(c, f"sde={kind_of(c)}")
    assert f"image_size={size}" in error.value.hint
    assert understand(c, error.value.hint.split("`config` ")[1] + f",sde={kind_of(c)}")


@pytest.mark.parametrize("change", [{"sigma_max": 90.0}, {"num_channels": 1}, {"nf": 16}])
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_size_is_assumed_only_for_published_noise_and_image_channels(name, change):
    """The width of the network does not matter: it does not depend on the image size."""
    c = replace(PUBLISHED[name], **change, skip_rescale=True)
    config = f"sde={kind_of(c)},skip_rescale=true"
    if "nf" in change:
        assert understand(c, config).settings["image_size"] == c.image_size
    else:
        with pytest.raises(CheckpointError, match="does not state the image_size"):
            understand(c, config)


@pytest.mark.parametrize(
    ("name", "registered"),
    [
        ("vp", "cifar10-vp"),
        ("vp", "cifar10-vp-deep"),
        ("subvp", "cifar10-subvp"),
        ("ve", "cifar10-ve"),
        ("ve", "cifar10-ve-deep"),
        ("lsun", "church"),
    ],
)
def test_a_registered_name_gives_all_settings(name, registered):
    training = understand(PUBLISHED[name], registered)
    assert training.assumed == ()
    assert not wrong_in(PUBLISHED[name], training)
    changed = understand(PUBLISHED[name], f"{registered},centered={not PUBLISHED[name].centered}")
    assert wrong_in(PUBLISHED[name], changed) == {"centered"}


@pytest.mark.parametrize(
    ("name", "config", "error", "named"),
    [
        ("lsun", "bedroom", CheckpointError, "its sigma_max is 380, not 378"),
        ("lsun", "cifar10-ve", CheckpointError, "VE network for 256x256"),
        ("vp", "cifar10-ve", CheckpointError, "VP, sub-VP or discrete network for 32x32"),
        ("ve", "cifar10-vp", CheckpointError, "the file is not 'cifar10-vp'"),
        ("ve-discrete", "cifar10-ve", CheckpointError, "the file is not 'cifar10-ve'"),
        ("vp-discrete", "cifar10-ddpm", CheckpointError, "the file is not 'cifar10-ddpm'"),
        ("vp", "sde=ve", CheckpointError, "positional embedding"),
        ("ve", "sde=ve-discrete", CheckpointError, "Fourier features"),
        ("vp-residual", "sde=vp,fir=false", CheckpointError, "fir=true"),
        ("ve", "beta_max=10", UsageError, "beta_max is for VP"),
        ("vp", "sde=edm", UsageError, "one of ve, ve-discrete, vp"),
        ("vp", "sde=vp,image_size=0", UsageError, "whole number of pixels"),
        ("vp", "sde=vp,fir=perhaps", UsageError, "one of true, false"),
        ("vp", "sde=vp,beta_max=much", UsageError, "a number"),
        ("vp", "sde=vp,sigma_max=50", UsageError, "unknown setting 'sigma_max'"),
        ("vp", "cifar10-vp,cifar10-subvp", UsageError, "unknown setting 'cifar10-subvp'"),
        ("vp", "", UsageError, "unknown config ''"),
    ],
)
def test_contradictory_or_unknown_settings_are_refused(name, config, error, named):
    with pytest.raises(error, match=named):
        understand(PUBLISHED[name], config)


# --- files ----------------------------------------------------------------------------------------


def narrow(name):
    """A published configuration, with fewer blocks for a DDPM, which has many channels."""
    c = PUBLISHED[name]
    return replace(c, ch_mult=(1, 1), num_res_blocks=1) if c.name == "ddpm" else c


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_is_built_from_a_file(name, tmp_path):
    """The weights fit, the shape of a sample is right, and a full --config leaves no assumption."""
    c = narrow(name)
    path = write(c, tmp_path / "a.pth")
    checkpoint = score_sde.read(path, config=as_config(settings_of(c)))
    model = build(checkpoint, "a", path, device=torch.device("cpu"))
    assert checkpoint.assumptions == ()
    assert model.shape == (3, c.image_size, c.image_size)
    config, size = checkpoint.network_config, model.shape[1]
    assert not differences(c, config, model.sde, checkpoint.parametrization, size)


@pytest.mark.parametrize(
    "levels",
    [
        torch.ones(1000),
        torch.arange(9.0),
        torch.arange(9),
        torch.zeros(0),
        torch.ones(2, 2),
        torch.full((9,), torch.nan),
        torch.ones(1).expand(2**40),
    ],
)
def test_invalid_noise_levels_are_refused(levels, tmp_path):
    path = write(VE, tmp_path / "a.pth")
    content = torch.load(path, weights_only=True)
    content["model"]["module.sigmas"] = levels
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"its noise levels, module\.sigmas"):
        score_sde.read(path)


# --- scores ---------------------------------------------------------------------------------------


def labelled(x, label):
    """A network whose output depends on its label."""
    return x + label.to(x.dtype)[:, None, None, None]


def test_discrete_ve_scores_are_those_of_song_at_every_level():
    """network(x, k) / sigmas[k], with decreasing noise levels.

    Reference: get_score_fn and NCSNpp of score_sde_pytorch.
    """
    c, x = PUBLISHED["ve-discrete"], torch.randn(1000, 3, 2, 2, dtype=torch.float64)
    k = torch.arange(1000)
    score = PARAMETRIZATIONS["ve-discrete"](labelled, sde_of(c))
    expected = labelled(x, k) / sigmas(c)[:, None, None, None]
    torch.testing.assert_close(score(x, 1 - k / torch.tensor(999.0).double()), expected)


def test_a_ddpm_is_the_u_net_of_ho(tmp_path):
    """`NCSNpp` as the DDPM of score_sde_pytorch equals `UNet`, which is tested against diffusers.

    They are equal without attention. On the way up, Ho has one attention after every block, and
    Song has one on each level.
    """
    c = replace(narrow("ddpm"), image_size=8, attn_resolutions=())
    generator = torch.Generator().manual_seed(0)
    tensors = {n: 0.1 * torch.randn(s, generator=generator) for n, s in shapes(c).items()}
    config = as_config(settings_of(c))
    checkpoint = score_sde.read(write(c, tmp_path / "a.pth", tensors), config=config)
    song, ho = (
        NCSNpp(**checkpoint.network_config),
        UNet(
            image_channels=3,
            channels=(128, 128),
            attention_down=(False, False),
            attention_up=(False, False),
            blocks=1,
            downsample_padding=0,
        ),
    )
    song.load_state_dict(checkpoint.tensors)
    last = {"up.1.to_image.norm": "norm_out", "up.1.to_image.conv": "conv_out"}
    state = {}
    for name, tensor in checkpoint.tensors.items():
        module, _, kind = name.rpartition(".")
        state[f"{last.get(module, module)}.{kind}"] = tensor
    ho.load_state_dict(state)
    x, label = torch.randn(2, 3, 8, 8, generator=generator), torch.tensor([0.0, 730.0])
    with torch.no_grad():
        torch.testing.assert_close(song(x, label), ho(x, label))


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_models_and_the_class_ddpm_give_the_scores_of_songs_code(name, tmp_path):
    """Relative error at most 1e-5 at whole labels, from the first level to the last."""
    case, path = DISCRETE[name], tmp_path / "a.pth"
    checkpoint = score_sde.read(song_file(name, path), config=name)
    assert checkpoint.assumptions == ()
    model = build(checkpoint, name, path, device=torch.device("cpu"))
    labels, sde = torch.tensor(case["labels"], dtype=torch.float64), checkpoint.sde
    index = torch.arange(len(labels))
    x = Noise(seed=1, shape=model.shape)(index, 0 * index)
    if sde.name == "ve":
        # The network of Song divides by the noise level of its label.
        t, factor = 1 - labels / 999, 1.0
    elif checkpoint.parametrization == "vp-discrete":
        betas = torch.linspace(0.1, 20, 1000, dtype=torch.float64) / 1000
        t = sde.time_at(log_snr_table(betas.tolist())[labels.long()])
        factor = -sde.sigma(t).float()[:, None]
    else:
        t = labels / 999
        factor = -sde.sigma(t).float()[:, None]
    found = model.score(x, t)[:, :, ::8, ::8].flatten(1) * factor
    expected = torch.tensor(case["every_8th_pixel"])
    assert float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max()) <= 1e-5


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_a_published_name_gives_all_settings_and_other_files_are_refused(name):
    accepted = []
    for kind, c in PUBLISHED.items():
        try:
            training = understand(c, name)
        except CheckpointError:
            continue
        assert training.assumed == ()
        accepted.append((kind, training.settings["sde"]))
    deep, other = "deep" in name, {"bedroom", "ffhq", "celebahq"}
    if not deep and not any(word in name for word in other):
        assert accepted
    assert all(sde == PUBLISHED_NAMES[name][2] for _, sde in accepted)


def test_the_hint_names_the_published_models_that_a_file_may_be():
    with pytest.raises(CheckpointError) as error:
        understand(PUBLISHED["ddpm"], None)
    names = "vp/cifar10_ddpm, or vp/cifar10_ddpm_continuous, or subvp/cifar10_ddpm_continuous"
    assert error.value.hint.endswith(f"subvp, or {names}")


@pytest.mark.parametrize(
    ("name", "config", "named"),
    [
        ("vp", "sde=vp,model=ddpm", "blocks are those of ncsnpp"),
        ("ddpm", "sde=vp,model=ddpm,skip_rescale=true", "skip_rescale=true"),
    ],
)
def test_the_class_of_the_network_is_checked(name, config, named):
    with pytest.raises(CheckpointError, match=named):
        understand(PUBLISHED[name], config)
