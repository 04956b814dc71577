"""Every solver converges to the exact solution, at its declared order."""

import pytest

from ggf_cli.solvers import SOLVERS
from orders import FINEST, MORE_SDES, NAMES, SDES, errors, flow, prior, rms, slope, solution, solve
from problems import each_sde

every_sde = each_sde(*SDES)


@pytest.mark.parametrize("sde", [*SDES, *MORE_SDES], ids=lambda sde: sde.name)
@pytest.mark.parametrize("name", NAMES)
def test_order(name, sde):
    cls = SOLVERS[name].load()
    found = errors(name, sde)
    # The order may be higher than declared: the drift of this problem is linear, so terms vanish.
    assert slope(found) > cls.order - 0.2
    assert found[max(found)] < 0.03 * rms(solution(cls.kind, sde))


@every_sde
@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("dpm-adaptive", {"solver_order": 2}, 2),
        ("lamba", {"extrapolation": True}, 1),
        ("adaptive", {"extrapolation": False}, 1),
        ("unipc", {"solver_order": 1, "lower_order_final": False}, 2),
    ],
    ids=str,
)
def test_order_of_variants(name, options, order, sde):
    assert slope(errors(name, sde, **options)) > order - 0.2


@every_sde
def test_improved_euler_has_a_smaller_constant_than_eulers_method(sde):
    em = errors("em", sde)
    assert all(error < em[steps] / 2 for steps, error in errors("adaptive", sde).items())


@every_sde
def test_em_and_ddim_converge_to_the_reference_solutions(sde):
    """A wrong limit has an order too. `em` is compared with `sra3`, `ddim` with the exact flow."""
    expected = solution("sde", sde)
    assert rms(solve("em", sde, FINEST) - expected) < 5e-3 * rms(expected)
    assert rms(solve("ddim", sde, FINEST) - flow(sde, prior(sde))) < 5e-3 * rms(expected)
