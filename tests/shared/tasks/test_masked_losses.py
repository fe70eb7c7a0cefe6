"""Losses with missing labels: hand calculations, and that a missing label leaves no trace."""

import math

import pytest
import torch

from shared.models.spatial_multitask import MARKERS, SpatialMultitask
from shared.tasks.masked_losses import masked_binary, masked_huber, multitask_loss

NAN = float("nan")


def column(*values):
    return torch.tensor([[value] for value in values], requires_grad=True)


def test_binary_is_the_mean_over_the_labelled_cases():
    logits = column(0.0, 7.0, math.log(3))
    loss = masked_binary(logits, torch.tensor([1.0, NAN, 0.0]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    loss.backward()
    assert logits.grad.flatten().tolist() == pytest.approx([-0.5 / 2, 0.0, 0.75 / 2])
    assert logits.grad[1].item() == 0.0


def test_huber_is_half_the_square_and_then_a_line():
    output = column(2.0, 9.0, 5.0)
    loss = masked_huber(output, torch.tensor([1.5, NAN, 2.0]))
    assert loss.item() == pytest.approx((0.5 * 0.25 + 1.0 * (3.0 - 0.5)) / 2)
    loss.backward()
    assert output.grad.flatten().tolist() == pytest.approx([0.25, 0.0, 0.5])


@pytest.mark.parametrize("loss", [masked_binary, masked_huber])
def test_a_batch_without_labels_is_exactly_zero_with_zero_gradient(loss):
    output = torch.full((2, 1), 3.0, requires_grad=True)
    value = loss(output, torch.tensor([NAN, NAN]))
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(output.grad, torch.zeros(2, 1))


@pytest.mark.parametrize("bad", [NAN, float("inf")])
@pytest.mark.parametrize("loss", [masked_binary, masked_huber])
def test_what_an_unlabelled_case_outputs_cannot_matter(loss, bad):
    output = column(0.5, bad)
    value = loss(output, torch.tensor([1.0, NAN]))
    value.backward()
    assert value.item() == loss(column(0.5), torch.tensor([1.0])).item()
    assert output.grad[1].item() == 0.0


def test_half_precision_outputs_are_summed_in_single():
    output = torch.zeros(4, 1, dtype=torch.bfloat16)
    assert masked_binary(output, torch.ones(4)).dtype == torch.float32


def case():
    outputs = [column(0.0, 0.0), column(0.0, 0.0), column(math.log(3), 0.0), column(2.0, 5.0)]
    target = torch.tensor([[1.0, NAN, 0.0, 2.5], [0.0, NAN, NAN, 2.0]])
    er, her2, ki67 = math.log(2), math.log(4), (0.125 + 2.5) / 2
    return outputs, target, (er, her2, ki67)


def test_fixed_weights_add_the_markers_up():
    outputs, target, parts = case()
    assert multitask_loss(outputs, target).item() == pytest.approx(sum(parts))


def test_uncertainty_weights_follow_kendall_and_leave_a_missing_marker_out():
    outputs, target, (er, her2, ki67) = case()
    s2 = {"er": 2.0, "pr": 7.0, "her2": 0.5, "ki67": 4.0}
    log_variance = {marker: torch.tensor(math.log(value), requires_grad=True) for marker, value in s2.items()}
    expected = er / 2 + her2 / 0.5 + (2 * ki67) / (2 * 4)
    expected += math.log(math.sqrt(2)) + math.log(math.sqrt(0.5)) + math.log(math.sqrt(4))
    loss = multitask_loss(outputs, target, log_variance)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert log_variance["pr"].grad is None
    assert log_variance["er"].grad.item() == pytest.approx(0.5 - er / 2)


def test_both_weightings_agree_at_unit_variance():
    outputs, target, _ = case()
    ones = {marker: torch.zeros(()) for marker in MARKERS}
    assert multitask_loss(outputs, target, ones).item() == pytest.approx(multitask_loss(outputs, target).item())


def test_the_best_variance_of_a_regression_is_its_squared_error():
    # The normal likelihood's optimum; the factor of the half decides it.
    variance = {marker: torch.tensor(math.log(0.6**2), requires_grad=True) for marker in MARKERS}
    outputs = [column(0.0), column(0.0), column(0.0), column(2.6)]
    multitask_loss(outputs, torch.tensor([[NAN, NAN, NAN, 2.0]]), variance).backward()
    assert variance["ki67"].grad.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("absent", range(4))
def test_a_head_is_untouched_by_a_batch_without_its_label(absent, weighted):
    torch.manual_seed(0)
    net = SpatialMultitask(2, channels=(8, 8))
    target = torch.tensor([[1.0, 0.0, 1.0, 3.0], [0.0, 1.0, 0.0, 1.0]])
    target[:, absent] = NAN
    multitask_loss(net(torch.rand(2, 3, 8, 8, 8)), target, net.log_variance if weighted else None).backward()
    for index, marker in enumerate(MARKERS):
        gradients = [item.grad for item in net.heads[marker].parameters()]
        assert all(item.abs().sum() == 0 for item in gradients) == (index == absent)
        assert (net.log_variance[marker].grad is not None) == (weighted and index != absent)
    assert net.blocks[0][0].weight.grad.abs().sum() > 0


def test_a_batch_without_any_label_moves_nothing_but_can_be_sent_backwards():
    torch.manual_seed(0)
    net = SpatialMultitask(2, channels=(8, 8))
    loss = multitask_loss(net(torch.rand(2, 3, 8, 8, 8)), torch.full((2, 4), NAN), net.log_variance)
    loss.backward()
    assert loss.item() == 0.0
    assert all(item.grad is None or item.grad.abs().sum() == 0 for item in net.parameters())


def test_the_shared_part_learns_as_if_the_unlabelled_case_were_absent():
    torch.manual_seed(0)
    net, x = SpatialMultitask(2, channels=(8, 8)), torch.rand(2, 3, 8, 8, 8)

    def gradient(patches, target):
        net.zero_grad()
        multitask_loss(net(patches), target).backward()
        return net.blocks[0][0].weight.grad.clone()

    known = torch.tensor([[1.0, 0.0, NAN, 3.0]])
    both = gradient(x, torch.cat([known, torch.full((1, 4), NAN)]))
    assert torch.allclose(both, gradient(x[:1], known), atol=1e-6)


def test_percentage_points_are_refused_with_the_remedy():
    outputs, target, _ = case()
    target[0, 3] = 25.0
    with pytest.raises(ValueError, match="divide percentage points by 10"):
        multitask_loss(outputs, target)
    target[0, 3] = 10.0
    assert multitask_loss(outputs, target).isfinite()


def test_the_same_batch_gives_the_same_bytes():
    outputs, target, _ = case()
    assert torch.equal(multitask_loss(outputs, target), multitask_loss(outputs, target))
