"""Settings of the executor: where the work runs."""

from typing import Any, Literal

from pydantic import field_validator, model_validator

from splitray.errors import UserError
from splitray.executor.accelerators import find
from splitray.settings import Settings, operational
from splitray.units import parse_count


class ResourceSettings(Settings):
    """Where the work runs. Nothing here changes what comes out, but for the world size of groups, which is recorded."""

    accelerator: Literal["auto", "cpu", "gpu"] = operational("auto", "With auto, GPUs where the cluster has any.")
    base_workers: int = operational(1, "Workers of the group that trains the target's mixture segments.", ge=1)
    specialist_workers: int = operational(1, "Workers of each specialist.", ge=1)
    base_workers_min: int | None = operational(
        None,
        "Fewest workers that the base's group goes on with while nodes are missing. It takes the largest number that "
        "divides the global batch and has room. Default: never fewer than base_workers.",
        ge=1,
    )
    specialist_workers_min: int | None = operational(None, "The same of a specialist's group.", ge=1)
    resize_seconds: float = operational(
        60.0,
        "Seconds that such a group waits for missing nodes before it starts with fewer workers. Also how long new room "
        "must last before a smaller group checkpoints and starts anew with more.",
        ge=1,
    )
    capacity: float | None = operational(
        None, "CPUs (GPUs) that hosts may hold together; default: what the cluster has at the start.", gt=0
    )
    silence_seconds: float = operational(
        60.0,
        "Seconds without a sign of life after which a worker, or the coordinator, counts as hung and is replaced. "
        "A thread gives signs about once a second, however long a training step takes.",
        ge=5,  # signs come about once a second, and the machine may be busy
    )
    idle_seconds: float = operational(
        60.0, "Seconds of idleness after which a worker is let go. A new one costs 6 to 14 s, an idle GPU money.", ge=1
    )
    schedule: Literal["auto", "single"] = operational(
        "auto",
        "With auto, on GPUs: large models of the ladder and the search train in groups of several GPUs, and small ones "
        "share a GPU, as the timetable finds fastest. With single, and on CPUs, a segment has one worker.",
    )
    accelerator_type: str | None = operational(
        None, "Kind of GPU: A100, H100, H200 or L40S. Default: what the cluster names; H100 for the dry run."
    )
    tokens_per_second: float | None = operational(
        None, "Measured training speed of one worker, whatever the model, for timetables and --dry-run.", gt=0
    )
    tokens_per_second_by_shape: dict[str, float] = operational(
        {}, "Measured training speed of one worker by shape, as {h2048-l24: 51000}. It goes before the field above."
    )
    price_per_hour: float | None = operational(
        None,
        "Price of one worker for one hour: of a GPU, or of `training.threads` CPUs. The dry run and the report tell "
        "the cost by it.",
        ge=0,
    )
    currency: str = operational("USD", "Currency of `price_per_hour`.", min_length=1)
    instance_type: str | None = operational(
        None, "Instance type of the nodes that train, to look its price up; in place of `price_per_hour`."
    )
    region: str | None = operational(None, "Region of these nodes, as the price table writes it.")
    market: Literal["on-demand", "spot"] = operational("on-demand", "How these nodes are bought.")
    price_table: str | None = operational(
        None, "CSV file of prices on the driver's machine; default: the examples that splitray brings along."
    )

    @property
    def smallest_groups(self) -> dict[str, int]:
        """The fewest workers that groups may have: of the base, and of a specialist, by the field that says so."""
        made = {}
        for name in ("base_workers", "specialist_workers"):
            least: int | None = getattr(self, f"{name}_min")
            field, workers = (name, getattr(self, name)) if least is None else (f"{name}_min", least)
            made[f"resources.{field}"] = workers
        return made

    @field_validator("tokens_per_second_by_shape", mode="before")
    @classmethod
    def _rates(cls, given: Any) -> Any:
        """Numbers as people write them: 51K."""
        if not isinstance(given, dict):
            return given
        try:
            rates = {name: parse_count(rate) if isinstance(rate, str) else rate for name, rate in given.items()}
        except UserError as error:
            raise ValueError(str(error)) from None
        if low := [name for name, rate in rates.items() if isinstance(rate, int | float) and rate <= 0]:
            raise ValueError(f"{low[0]}: {rates[low[0]]} is not above 0")
        return rates

    @field_validator("accelerator_type")
    @classmethod
    def _known(cls, given: str | None) -> str | None:
        if given is not None:
            try:
                find(given)
            except UserError as error:
                raise ValueError(str(error)) from None
        return given

    @model_validator(mode="after")
    def _fewest(self) -> "ResourceSettings":
        for name, most in (("base_workers", self.base_workers), ("specialist_workers", self.specialist_workers)):
            least = getattr(self, f"{name}_min")
            if least is not None and least > most:
                raise ValueError(f"{name}_min = {least} exceeds {name} = {most}")
        return self

    @model_validator(mode="after")
    def _one_price(self) -> "ResourceSettings":
        if self.price_per_hour is not None and self.instance_type is not None:
            raise ValueError("price_per_hour and instance_type are two sources of one price: give one of them")
        if self.instance_type is not None and self.region is None:
            raise ValueError(f"region is missing: the price of {self.instance_type} depends on it")
        return self
