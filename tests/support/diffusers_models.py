"""Save small `UNet2DModel`s with random weights, and compare `ggf` with the score of diffusers."""

import json
import warnings

import torch

from ggf_cli.checkpoints.load import build, load_model, read_checkpoint

# Largest relative error of a row. Both sides compute in float32, with products in another order, an
# error of 1e-6. Also, diffusers computes the sines of the time embedding in float32. The error of
# their arguments is proportional to the label: 3e-5 at 999. With scale_shift it grows.
TOLERANCE = 2e-5
TOLERANCE_OF_LABEL = 8e-8


def quiet(make, *args, **kwargs):
    """Call a function of diffusers without its warnings, which are errors in the tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*args, **kwargs)


def network_class():
    """Import and return `UNet2DModel`. The import takes seconds, so it is made in the tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import UNet2DModel
    return UNet2DModel


def random_network(**config):
    """A network with random parameters. Norms of 1 and biases of 0 would hide mistakes."""
    network = quiet(network_class(), **config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        # Frequencies; a table of learned embeddings has two dimensions.
        if name == "time_proj.weight" and parameter.dim() == 1:
            parameter.copy_(4 * noise)
        elif parameter.dim() > 1:
            parameter.copy_(noise * (2 / parameter[0].numel()) ** 0.5)
        else:
            parameter.copy_(0.3 * noise + ("norm" in name and name.endswith("weight")))
    return network


def scheduler_of(kind, **config):
    """Make a scheduler of diffusers from the name of its class."""
    return quiet(scheduler_class(kind), **config)


def scheduler_class(kind):
    """The scheduler class of this name; two of them are among the deprecated modules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "ScoreSdeVpScheduler":
            from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler

            return ScoreSdeVpScheduler
        if kind == "KarrasVeScheduler":
            from diffusers.schedulers.deprecated.scheduling_karras_ve import KarrasVeScheduler

            return KarrasVeScheduler
        import diffusers
    return getattr(diffusers, kind)


def save(folder, network, scheduler):
    """Write the folder of a pipeline with diffusers; return the folder."""
    quiet(network.save_pretrained, folder / "unet")
    quiet(scheduler.save_pretrained, folder / "scheduler")
    return folder


def load_untried(folder):
    """Load a model without the trial evaluation on the meta device, which takes the most time."""
    return build(read_checkpoint(folder), "m", folder, device=torch.device("cpu"), known=True)


def edit(file, **changes):
    """Set keys of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def levels(scheduler):
    """(labels, alpha, sigma) of some noise levels of a scheduler, in float64."""
    if hasattr(scheduler, "betas"):
        # The last label lies beyond the end of the SDE of "vp-discrete".
        last = len(scheduler.betas) - 2
        labels = torch.tensor([0, 1, last // 25, last // 2, last])
        alpha_bar = alphas_cumprod(scheduler)[labels]
        return labels.double(), alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    t = torch.tensor([1e-3, 0.01, 0.1, 0.5, 1.0], dtype=torch.float64)
    c = scheduler.config
    if "sigma_max" in c:
        sigma = c.sigma_min * (c.sigma_max / c.sigma_min) ** t
        return sigma, torch.ones_like(t), sigma
    log_alpha = -(t**2) * (c.beta_max - c.beta_min) / 4 - t * c.beta_min / 2
    return 999 * t, log_alpha.exp(), (1 - (2 * log_alpha).exp()).sqrt()


def alphas_cumprod(scheduler):
    """The product of 1 - beta up to each level, in float64.

    For a model with another table than DDPM's, the float32 numbers of diffusers, which it was
    trained with. DDPM's are those of the SDE that it discretises; they differ by rounding.
    """
    c = scheduler.config
    ddpm = c.get("prediction_type", "epsilon") == "epsilon" and not c.get("rescale_betas_zero_snr")
    line = torch.linspace(scheduler.betas[0], scheduler.betas[-1], len(scheduler.betas))
    if ddpm and len(line) == 1000 and torch.allclose(line, scheduler.betas, rtol=1e-6, atol=0):
        return torch.cumprod(1 - scheduler.betas.double(), 0)
    return scheduler.alphas_cumprod.double()


def class_labels(network, rows):
    """Class labels for the rows, as a list of arguments; empty if the network takes none."""
    c = network.config
    # Beside any other class_embed_type, num_class_embeds has no effect.
    count = c.num_class_embeds if c.class_embed_type in (None, "timestep") else None
    return [torch.arange(rows) % count] if count else []


def defined_score(network, scheduler, x, label, alpha, sigma):
    """The score by the network of diffusers: its output is what the scheduler predicts."""
    output = network(x, whole(label, network), *class_labels(network, len(x))).sample
    if not hasattr(scheduler, "betas"):
        return output if "sigma_max" in scheduler.config else -output / expand(sigma)
    alpha, sigma = expand(alpha), expand(sigma)
    noise = {
        "epsilon": lambda: output,
        "v_prediction": lambda: alpha * output + sigma * x,
        "sample": lambda: (x - alpha * output) / sigma,
    }[scheduler.config.get("prediction_type", "epsilon")]()
    return -noise / sigma


def whole(label, network):
    """The labels in the type that diffusers wants: a learned embedding takes whole numbers."""
    dtype = dtype_of(network)
    return (label if dtype.is_floating_point else label.round()).to(dtype)


def dtype_of(network):
    """The type of the labels of a network."""
    learned = network.config.time_embedding_type == "learned"
    return torch.int64 if learned else torch.float32


def expand(v):
    return v.float()[:, None, None, None]


def assert_same_score(folder, network, scheduler, *, load=load_model):
    """Check that the model of a folder has the score of diffusers at the noise levels."""
    model = load(folder)
    label, alpha, sigma = levels(scheduler)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(len(label), *model.shape, generator=generator)
    t = model.sde.time_at(torch.log(alpha / sigma))
    expected = defined_score(network, scheduler, x, label, alpha, sigma)
    found = model.score(x, t, *class_labels(network, len(x)))
    error = (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    largest = TOLERANCE + TOLERANCE_OF_LABEL * label.clamp(max=1000)
    assert bool((error <= largest).all()), [f"{float(e):.1e}" for e in error]
    return model
