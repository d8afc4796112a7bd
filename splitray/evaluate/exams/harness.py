"""EleutherAI's lm-evaluation-harness on a mixture: the harness's tasks, our models. Needs the extra `exams`.

    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from splitray.evaluate.exams.harness import MixtureLM

    simple_evaluate(model=MixtureLM(mixture), tasks=["my_task"], task_manager=TaskManager(include_path="tasks"))

Tasks and their data may lie on the disk; nothing is fetched then.
"""

from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM

from splitray.evaluate.exams.scoring import continuations
from splitray.evaluate.mixture import Mixture, Sampling

_TOKENS = 256  # that an answer has at most, where the task does not say


class MixtureLM(TemplateLM):
    """A mixture as the harness asks it: log-likelihoods, rolling ones, and text."""

    def __init__(self, mixture: Mixture) -> None:
        super().__init__()
        self.mixture = mixture

    @property
    def eot_token_id(self) -> int:
        return self.mixture.encoder.end

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        tokens: list[int] = self.mixture.encoder.encode([string])[0][:-1].tolist()
        return tokens

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        end = self.eot_token_id
        pairs = [([] if context == [end] else context, answer) for _, context, answer in requests]
        texts = [context for (context, _), _, _ in requests]
        return [(-c.nats, bool(c.greedy)) for c in continuations(self.mixture, pairs, texts, greedy=True)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts, in windows of the models' context."""
        texts = [request.args[0] for request in requests]
        rows = [np.array([self.eot_token_id, *self.tok_encode(text)]) for text in texts]
        long = [place for place, row in enumerate(rows) if len(row) > 1]
        scored = self.mixture.score_tokens([rows[place] for place in long], [texts[place] for place in long])
        found = dict(zip(long, (-float(s.nats.sum()) for s in scored), strict=True))
        return [found.get(place, 0.0) for place in range(len(rows))]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Text up to the first of the task's stops; the front of a prompt that is too long is cut."""
        answers = []
        for request in requests:
            prompt, asked = request.args
            stops = [asked["until"]] if isinstance(asked.get("until"), str) else list(asked.get("until") or [])
            most = min(int(asked.get("max_gen_toks", _TOKENS)), self.mixture.max_length - 2)
            temperature = float(asked.get("temperature", 0.0)) if asked.get("do_sample") else 0.0
            room = self.mixture.max_length - 1 - most
            tokens = self.mixture.encoder.encode([prompt])[0][:-1]
            if len(tokens) > room:
                prompt = self.mixture.encoder.decode([np.append(tokens[-room:], self.eot_token_id)])[0]
            text = self.mixture.generate([prompt], Sampling(max_tokens=most, temperature=temperature))[0].text
            for stop in stops:
                text = text.split(stop)[0] if stop else text
            answers.append(text)
        return answers
