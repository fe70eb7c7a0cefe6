"""The linear radiomics model: its scaling over sites, its clip, and that it is a logistic regression."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from shared.messages.payload import flatten, unflatten
from shared.models.radiomics import RadiomicsLinear


def counted(batches):
    net = RadiomicsLinear(batches[0].shape[1], 3)
    for batch in batches:
        net(batch)
    return net


def draws(seed, *, mean=0.0, scale=1.0, batches=20, size=8, features=5):
    generator = torch.Generator().manual_seed(seed)
    return [mean + scale * torch.randn(size, features, generator=generator) for _ in range(batches)]


def test_there_is_one_output_of_one_logit_a_class():
    outputs = RadiomicsLinear(7, 4).eval()(torch.randn(3, 7))
    assert [tuple(item.shape) for item in outputs] == [(3, 4)]
    assert sum(item.numel() for item in RadiomicsLinear(7, 4).parameters()) == 7 * 4 + 4


def test_the_buffers_are_those_of_batch_norm_with_a_cumulative_average():
    batches = draws(0, mean=3.0, scale=2.0)
    reference = torch.nn.BatchNorm1d(5, affine=False, momentum=None)
    for batch in batches:
        reference(batch)
    net = counted(batches)
    torch.testing.assert_close(net.running_mean, reference.running_mean)
    torch.testing.assert_close(net.running_var, reference.running_var)
    assert float(net.num_batches_tracked) == len(batches)


def test_the_average_over_sites_has_the_mean_of_all_and_lacks_the_variance_between_them():
    sites = [draws(1, mean=-4.0, batches=200), draws(2, mean=4.0, batches=200)]
    states = [counted(batches).state_dict() for batches in sites]
    mean, variance = ((states[0][name] + states[1][name]) / 2 for name in ("running_mean", "running_var"))
    pooled = torch.cat([batch for batches in sites for batch in batches])
    torch.testing.assert_close(mean, pooled.mean(dim=0), atol=1e-4, rtol=0)
    torch.testing.assert_close(variance, torch.ones(5), atol=0.15, rtol=0)
    torch.testing.assert_close(variance + 4.0**2, pooled.var(dim=0), atol=0.3, rtol=0)


def test_counting_goes_on_after_a_round_and_stops_in_evaluation():
    batches = draws(3)
    through = RadiomicsLinear(5, 3)
    through.load_state_dict(counted(batches[:10]).state_dict())
    for batch in batches[10:]:
        through(batch)
    before = copy.deepcopy(through.state_dict())
    through.eval()(batches[0] + 100)
    torch.testing.assert_close(before, counted(batches).state_dict())
    torch.testing.assert_close(through.state_dict(), before)


def test_a_flat_float32_array_carries_the_state_exactly():
    net = counted(draws(4, batches=1000))
    state = net.state_dict()
    assert {value.dtype for value in state.values()} == {torch.float32}
    back = unflatten(flatten(state), state)
    assert all(torch.equal(back[name], value) for name, value in state.items())
    # A mean of sites that took different numbers of steps is no integer, and stays what it is.
    state["num_batches_tracked"] = torch.tensor(33.5)
    assert float(unflatten(flatten(state), state)["num_batches_tracked"]) == 33.5


def test_features_of_any_unit_are_standardised_and_cut_at_five():
    scales = torch.tensor([1e-4, 1.0, 1e5])
    batches = [(2.0 + batch) * scales for batch in draws(5, features=3, batches=50)]
    net = counted(batches)
    values = net.standardise(torch.cat(batches))
    torch.testing.assert_close(values.std(dim=0), torch.ones(3), atol=0.05, rtol=0)
    extremes = net.standardise(torch.tensor([[1e9] * 3, [-1e9] * 3]))
    assert extremes.tolist() == [[5.0] * 3, [-5.0] * 3]


def test_the_same_case_gets_the_same_value_in_training_and_evaluation():
    batches = draws(6)
    net = counted(batches)
    torch.nn.init.normal_(net.linear.weight)
    trained = net(batches[0])[0]
    torch.testing.assert_close(net.eval()(batches[0])[0], trained)
    torch.testing.assert_close(net(batches[0][:1])[0], trained[:1])


@pytest.mark.parametrize("value", [0.0, 0.1, 7654.321])
def test_a_constant_feature_says_nothing_instead_of_shouting_its_rounding(value):
    net = counted([torch.full((7, 1), value)] * 13)
    # The last bit of a weighted average over sites is nobody's variance.
    net.running_mean.copy_(torch.nextafter(net.running_mean, torch.tensor(torch.inf)))
    assert net.standardise(torch.full((2, 1), value)).abs().max() < 0.01


def test_a_negative_variance_of_a_noisy_average_breaks_nothing():
    net = RadiomicsLinear(2, 3).eval()
    net.running_var.fill_(-0.5)
    assert torch.isfinite(net(torch.randn(4, 2))[0]).all()


def test_a_training_batch_of_one_case_is_refused():
    with pytest.raises(ValueError, match="no variance"):
        RadiomicsLinear(5, 3)(torch.zeros(1, 5))


def test_trained_to_the_end_it_is_scikit_learns_logistic_regression():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 90)
    x = (rng.normal(size=(90, 4)) + np.eye(3, 4)[truth]).astype(np.float32)
    net = RadiomicsLinear(4, 3)
    batch, labels = torch.from_numpy(x), torch.from_numpy(truth)
    penalty = 0.5
    optimiser = torch.optim.LBFGS(net.parameters(), max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = (
            F.cross_entropy(net(batch)[0], labels, reduction="sum") + 0.5 * penalty * net.linear.weight.square().sum()
        )
        loss.backward()
        return loss

    optimiser.step(closure)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    reference = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=1000).fit(scaled, truth)
    found = net.eval()(batch)[0].softmax(dim=1).detach().numpy()
    np.testing.assert_allclose(found, reference.predict_proba(scaled), atol=2e-3)


def test_a_new_model_is_the_same_for_every_seed():
    torch.manual_seed(1)
    first = RadiomicsLinear(5, 3).state_dict()
    torch.manual_seed(2)
    torch.testing.assert_close(first, RadiomicsLinear(5, 3).state_dict())
