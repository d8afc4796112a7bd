"""A run on vLLM's engines, one deployment for each model. It needs vLLM: import it only where that is the engine."""

from typing import Any

from ray import serve
from ray.serve.llm import LLMConfig, LLMServer, build_llm_deployment

from splitray.evaluate.mixture import Parts, parts_of
from splitray.serve.ingress import Ingress
from splitray.serve.settings import ServeSettings
from splitray.storage.local import local_copy

_MEMORY = 0.9  # of a GPU that an engine plans with
# Models are local folders: nothing is fetched. vLLM's report of its use goes to a server of its makers.
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1"}


class Server(LLMServer):
    """Ray's server of one model, whose folder it brings to its own node where that lies in an object store."""

    async def __init__(self, llm_config: LLMConfig, **more: Any) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        told = llm_config.model_dump(exclude_unset=True)  # anew: a config remembers where its model lay
        told["model_loading_config"]["model_source"] = str(local_copy(told["model_loading_config"]["model_source"]))
        await super().__init__(LLMConfig(**told), **more)


def configs(parts: Parts, settings: ServeSettings) -> list[LLMConfig]:
    """One for each model of a run."""
    gpus = settings.gpus or 1.0
    share = min(gpus, 1.0)
    engine = {
        "trust_remote_code": False,
        "load_format": "safetensors",
        "generation_config": "vllm",  # not the folder's: a model from outside may bring penalties of its own
        "max_model_len": parts.max_length,
        "max_num_seqs": settings.batch,
        "tensor_parallel_size": max(1, int(gpus)),
        "gpu_memory_utilization": _MEMORY * share,
    }
    return [
        LLMConfig(
            model_loading_config={"model_id": name, "model_source": place},
            engine_kwargs=dict(engine),
            # On one node: the GPUs of one model exchange every layer's output.
            placement_group_config={"bundle_per_worker": {"GPU": share}, "strategy": "STRICT_PACK"},
            runtime_env={"env_vars": dict(_ENVIRONMENT)},
            deployment_config={
                "num_replicas": settings.replicas,
                "ray_actor_options": {"num_cpus": settings.threads},
                "max_ongoing_requests": settings.batch,
                "max_queued_requests": settings.waiting * settings.replicas,
            },
        )
        for name, place in parts.places.items()
    ]


def application(run: str, settings: ServeSettings, token: str, options: dict[str, Any]) -> serve.Application:
    """The ingress over an engine for each model.

    Args:
        run: address of the run folder.
        options: of the ingress's deployment, beside those that follow from the engines.

    Raises:
        UserError: the run folder cannot be served.
    """
    parts = parts_of(run, settings.prior)
    engines = {
        config.model_id: build_llm_deployment(config, deployment_cls=Server) for config in configs(parts, settings)
    }
    # One replica: it counts the requests that wait for each engine.
    most = (settings.batch + settings.waiting) * settings.replicas * len(engines)
    ingress = serve.deployment(**options, num_replicas=1, max_ongoing_requests=most)(serve.ingress()(Ingress))
    return ingress.bind(engines, run, settings, token)
