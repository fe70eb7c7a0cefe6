"""An exam in memory says nothing that it does not know."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from shared.modalities.mri.dce_study import Acquisition, DceStudy
from shared.types import Grid


def test_an_acquisition_is_unknown_unless_it_is_told():
    study = DceStudy(np.zeros((2, 3, 4, 5), np.float32), (-60.0, 90.0), Grid((3, 4, 5), (1.0, 1.0, 1.0)))
    assert study.acquisition == Acquisition("unknown", None, "unknown")
    with pytest.raises(FrozenInstanceError):
        study.times_s = ()
