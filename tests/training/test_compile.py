"""Compilation of many sizes in one process, as a host of the ladder has them."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from splitray.training.head import NextToken
from splitray.training.model import build


def test_the_ninth_size_is_compiled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounter()
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **options: real(call, **options | {"backend": counter}))
    tokens = torch.randint(0, 64, (1, 8))
    for place in range(10):
        values = {"model": {"hidden": 16 + 8 * place, "layers": 1, "heads": 2}, "seed": 0, "vocab": 64}
        values |= {"sequence_length": 8, "rope_theta": 1e4, "tie_embeddings": True, "end_token": 0}
        model = NextToken(build(values), whole=False)
        model.compile(dynamic=False)
        model(tokens, input_ids=tokens, use_cache=False)
    assert counter.frame_count >= 10
