"""Settings of the server."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from splitray.settings import Settings


class ServeSettings(Settings):
    """Where the server listens, what it takes at most, and how it writes."""

    engine: Literal["transformers", "vllm"] = Field(
        "transformers",
        description="What writes: 'transformers' mixes all models in one process; 'vllm' has an engine for each of "
        "them on GPUs, and 'auto' chooses one by the prompt.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; another than loopback opens it to the network.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    replicas: int = Field(
        1,
        ge=1,
        description="Processes that each hold all models, with vllm of each model; Ray Serve replaces one that dies.",
    )
    threads: int = Field(1, ge=1, description="CPU cores of a replica.")
    gpus: float = Field(
        0.0,
        ge=0,
        description="GPUs of a replica; with 0 it runs on the CPU, with vllm on one GPU. Several share one model's "
        "layers; below 1 is a share of one GPU.",
    )
    batch: int = Field(16, ge=1, description="Requests that a replica writes at once.")
    waiting: int = Field(128, ge=1, description="Requests that wait in a replica; one more is answered 429.")
    max_tokens: int = Field(1024, ge=1, description="Tokens that one request may ask for.")
    max_bytes: int = Field(262144, ge=1024, description="Bytes of a request's body; a longer one is answered 413.")
    seconds: float = Field(120.0, gt=0, description="Time of a request, its wait included; then it ends with 504.")
    prior: Literal["router", "uniform"] = Field(
        "router", description="Where the weights start: 'router' (by the prompt) or 'uniform'."
    )
    prefix: int = Field(
        256, ge=1, description="With vllm, tokens of a prompt that every model reads before 'auto' chooses one."
    )

    @field_validator("gpus")
    @classmethod
    def _whole_or_shared(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("engine") == "vllm" and value > 1 and value % 1:
            raise ValueError("vllm takes whole GPUs, or a share of one")
        return value
