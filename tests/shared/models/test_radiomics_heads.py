"""Linear terms beside a network: what they read, and to what they are added."""

import numpy as np
import pytest
import torch

from shared.models.lesion_measures import lesion_measures, measure_count
from shared.models.radiomics import CLIP, MEASURED_GAIN, MeasuredHeads
from tests.shared.tasks.drawn_patches import patch


def test_linear_terms_read_what_is_measured_in_the_volume():
    class Silent(torch.nn.Module):
        def forward(self, x):
            return [torch.zeros(len(x), 1)]

    model = MeasuredHeads(Silent(), 3, ("er",)).eval()
    x = torch.from_numpy(np.stack([patch(0), patch(1)]))
    measures = lesion_measures(x)
    with torch.no_grad():
        for column in range(measure_count(3)):
            model.measured["er"].linear.weight.zero_()[0, column] = 1.0
            expected = MEASURED_GAIN * measures[:, column].clamp(-CLIP, CLIP)  # mean 0 and variance 1 at the start
            torch.testing.assert_close(model(x)[0][:, 0], expected, rtol=1e-4, atol=1e-4)


def test_linear_terms_are_added_to_the_labels_outputs_alone():
    class Network(torch.nn.Module):
        def forward(self, x):
            return [torch.ones(len(x), 1), torch.full((len(x), 1), 2.0), torch.tensor(7.0)]

    model = MeasuredHeads(Network(), 3, ("er", "pr")).eval()
    with torch.no_grad():
        model.measured["pr"].linear.bias.fill_(0.5)
    er, pr, rest = model(torch.from_numpy(np.stack([patch(0), patch(1)])))
    assert er.flatten().tolist() == [1.0, 1.0]
    assert pr.flatten().tolist() == pytest.approx([2.0 + 0.5 * MEASURED_GAIN] * 2)
    assert float(rest) == 7.0
