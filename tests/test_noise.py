import pytest
import scipy.stats
import torch

from ggf_cli.noise import Noise, philox4x32

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


def test_streams_never_change():
    """A published sample must stay reproducible: this is the first block of seed 0."""
    z = Noise(seed=0, shape=(4,))(torch.tensor([0, 1]), torch.tensor([0, 0]))
    expected = torch.tensor(
        [[-0.121518, -0.397667, -1.350033, -0.310396], [1.071173, -0.351141, 0.416238, -0.034328]]
    )
    torch.testing.assert_close(z, expected, rtol=0, atol=1e-6)
