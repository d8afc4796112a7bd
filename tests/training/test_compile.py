"""Compilation of many sizes in one process, as a host of the ladder has them."""

from dataclasses import replace

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from splitray.training.head import NextToken
from splitray.training.model import build
from splitray.training.settings import ModelShape
from tests.support import tiny


def test_the_ninth_size_is_compiled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounter()
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **options: real(call, **options | {"backend": counter}))
    tokens = torch.randint(0, 64, (1, 8))
    for place in range(10):
        shape = ModelShape(hidden=16 + 8 * place, layers=1, heads=2)
        made = replace(tiny.make_recipe(tiny.training(sequence_length=8)), shape=shape)
        model = NextToken(build(made), made, whole=False)
        model.compile(dynamic=False)
        model(tokens, tokens)
    assert counter.frame_count >= 10
