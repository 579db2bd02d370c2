"""Which of many streams shifted: e-BH (Wang and Ramdas 2022), which holds under any dependence."""

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Float64s


def e_bh(log_evidence: Float64s, log_threshold: float) -> NDArray[np.bool_]:
    """The streams that are over, (S,): the k* largest, k* = max{k : log M_(k) >= log(A/π) + log S − log k}.

    Nothing is over unless the mean of the M is >= A/π, so the promise of one stream holds for all
    together. To be called with current evidence, never with running maxima (arXiv:2501.19360).
    """
    count = len(log_evidence)
    over = np.zeros(count, dtype=np.bool_)
    if not count or log_evidence.max() < log_threshold:
        return over
    order = np.argsort(-log_evidence, kind="stable")
    needed = log_threshold + np.log(count) - np.log(np.arange(1, count + 1))
    passed = np.flatnonzero(log_evidence[order] >= needed)
    if len(passed):
        over[order[: passed[-1] + 1]] = True
    return over
