"""Every solver with a fixed number of steps converges to the right thing, at the order it says it has."""

import pytest

from ggf_cli.solvers import SOLVERS
from orders import (
    FINEST,
    NAMES,
    SDES,
    STEPS,
    errors,
    rms,
    slope,
    solve,
    solve_improved_euler,
)

every_sde = pytest.mark.parametrize("sde", SDES, ids=lambda sde: sde.name)


@every_sde
@pytest.mark.parametrize("name", NAMES)
def test_order(name, sde):
    cls = SOLVERS[name].load()
    if sde.name not in cls.sdes:
        pytest.skip("not solved")
    # a higher order than promised is no fault: on this problem some terms vanish
    assert slope(errors(name, sde)) > cls.order - 0.2


@every_sde
def test_improved_euler_has_strong_order_1_with_a_smaller_constant(sde):
    reference = solve_improved_euler(sde, FINEST)
    improved = [rms(solve_improved_euler(sde, n) - reference) for n in STEPS]
    assert slope(improved) > 0.8
    assert all(a < b / 2 for a, b in zip(improved, errors("em", sde), strict=True))


@every_sde
def test_both_methods_have_the_same_limit(sde):
    """Converging to the wrong thing has an order too."""
    solution = solve_improved_euler(sde, FINEST)
    assert rms(solve("em", sde, FINEST) - solution) < 5e-3 * rms(solution)
