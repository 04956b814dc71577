"""Noise: published Philox words, statistics, and the same bits on every machine."""

import hashlib
import json

import pytest
import scipy.stats
import torch

from ggf_cli.noise import Noise
from ggf_cli.noise.philox import philox4x32
from paths import DATA

INDEX = torch.arange(6)


# Known answers of the Random123 distribution (kat_vectors, philox 4x32, 10 rounds).
@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_words(counter, key, words):
    out = philox4x32(*(torch.tensor([c]) for c in counter), key=tuple(key))
    assert " ".join(f"{int(w):08x}" for w in out) == words


@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3), (1, 28, 28), (3, 32, 32)])
def test_a_block_is_a_function_of_seed_index_and_draw_alone(shape):
    noise = Noise(seed=3, shape=shape)
    draw = torch.tensor([0, 5, 5, 1, 2, 900])
    block = noise(INDEX, draw)
    assert block.shape == (6, *shape)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    assert torch.equal(noise(INDEX[order], draw[order]), block[order])
    for i in range(6):
        assert torch.equal(noise(INDEX[i : i + 1], draw[i : i + 1])[0], block[i])


def test_blocks_of_other_samples_draws_and_seeds_differ():
    def block(seed, index, draw):
        noise = Noise(seed=seed, shape=(64,))
        return noise(torch.tensor([index]), torch.tensor([draw]))[0]

    blocks = [
        block(*key)
        for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 2**32, 0), (2**32, 0, 0)]
    ]
    for i, a in enumerate(blocks):
        for b in blocks[:i]:
            assert (a != b).all()


def test_noise_is_standard_normal_and_uncorrelated():
    """Each bound fails by chance with probability below 1e-4."""
    z = Noise(seed=1, shape=(1000,))(torch.arange(200), torch.arange(200) % 7).double()
    assert abs(float(z.mean())) < 4 / len(z.flatten()) ** 0.5
    assert abs(float(z.var()) - 1) < 4 * (2 / len(z.flatten())) ** 0.5
    assert scipy.stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-4
    correlation = torch.corrcoef(z) - torch.eye(200)
    assert float(correlation.abs().max()) < 6 / 1000**0.5
    assert float(z.abs().max()) < 6.8


def test_moments_and_tails_of_ten_million_numbers_are_those_of_a_normal():
    """Each bound fails by chance with probability below 1e-4."""
    z = torch.cat(
        [Noise(seed=2, shape=(2**21,))(torch.tensor([i]), torch.tensor([0]))[0] for i in range(5)]
    )
    n = len(z)
    normal = scipy.stats.norm
    for power in range(1, 7):
        mean, variance = (float(normal.moment(k)) for k in (power, 2 * power))
        found = float(z.double().pow(power).mean())
        assert abs(found - mean) < 4 * ((variance - mean**2) / n) ** 0.5, power
    for edge in (1.0, 2.0, 3.0, 4.0, 4.5):
        for tail in (z > edge, z < -edge):
            share = float(normal.sf(edge))
            assert abs(int(tail.sum()) - n * share) < 4.5 * (n * share) ** 0.5 + 1, edge
    assert scipy.stats.kstest(z[:: n // 10**6].double().numpy(), "norm").pvalue > 1e-4


def test_published_noise_never_changes():
    """Published samples must stay reproducible. These are the first numbers of seed 0."""
    z = Noise(seed=0, shape=(4,))(torch.tensor([0, 1]), torch.tensor([0, 0]))
    expected = torch.tensor(
        [[-0.121518, -0.397667, -1.350033, -0.310396], [1.071173, -0.351141, 0.416238, -0.034328]]
    )
    torch.testing.assert_close(z, expected, rtol=0, atol=1e-6)


# The SHA-256 of blocks as little-endian float32. They are the same on every CPU and GPU and never
# change: other noise needs another `STREAM`.
PINNED = {
    "prior": ({"seed": 0, "shape": (3, 32, 32)}, range(8), [0] * 8),
    "later draws": ({"seed": 7, "shape": (1, 28, 28)}, [0, 5, 999_999], [1, 40, 9_999]),
    "odd size": ({"seed": 1, "shape": (7,)}, range(64), range(64)),
    "large numbers": (
        {"seed": 2**63 - 1, "shape": (5, 3)},
        [2**32, 2**62, 2**63 - 1],
        [2**31, 0, 1],
    ),
    "large sample": ({"seed": 0, "shape": (3, 256, 256)}, [0], [3]),
}
HASHES = json.loads((DATA / "noise.json").read_text())


def digest(device, seed, shape, index, draw):
    block = Noise(seed=seed, shape=shape)(
        torch.tensor(index, device=device), torch.tensor(draw, device=device)
    )
    return hashlib.sha256(block.cpu().numpy().astype("<f4").tobytes()).hexdigest()


@pytest.mark.parametrize("name", PINNED)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_blocks_are_the_same_to_the_bit_on_every_machine(device, name):
    settings, index, draw = PINNED[name]
    assert digest(device, **settings, index=list(index), draw=list(draw)) == HASHES[name]


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_blocks_do_not_depend_on_threads_or_on_subnormal_numbers(threads):
    settings, index, draw = PINNED["large sample"]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        found = digest("cpu", **settings, index=list(index), draw=list(draw))
        assert found == HASHES["large sample"]
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def test_noise_of_every_dtype_is_the_rounded_float32_noise():
    index, draw = torch.arange(3), torch.zeros(3, dtype=torch.int64)
    single = Noise(seed=4, shape=(50,))(index, draw)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        other = Noise(seed=4, shape=(50,), dtype=dtype)(index, draw)
        assert other.dtype == dtype
        assert torch.equal(other, single.to(dtype))


def test_other_devices_get_the_noise_of_the_cpu(monkeypatch):
    monkeypatch.setattr("ggf_cli.noise.EXACT_DEVICES", ())
    settings, index, draw = PINNED["odd size"]
    assert digest("cpu", **settings, index=list(index), draw=list(draw)) == HASHES["odd size"]
