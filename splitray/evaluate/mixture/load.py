"""A finished run's models as one, from its run folder alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitray import yaml_text
from splitray.corpus.router import Router
from splitray.corpus.tokenizer import Encoder
from splitray.errors import UserError
from splitray.evaluate.mixture.model import Mixture
from splitray.evaluate.mixture.prior import Prior, UniformPrior, load_prior
from splitray.evaluate.mixture.weights import Gate, Update
from splitray.results.folders import BASE, CARD, ROUTER, SPECIALISTS
from splitray.runtime.plugins import load_plugins
from splitray.storage.folder import Folder
from splitray.storage.local import local_copy
from splitray.training.folder import load_exported

_CONFIG = "config.yaml"
_LENGTH = 2048  # tokens of context, where a model names no limit


@dataclass(frozen=True)
class Parts:
    """What a run's mixture is made of, before a model is loaded.

    Args:
        places: addresses of the models' folders by name, in the prior's order: the specialists, then the base.
        encoder: the models' tokenizer.
        max_length: tokens of context that the models were trained with.
        prior: where the weights start.
    """

    places: dict[str, str]
    encoder: Encoder
    max_length: int
    prior: Prior


def parts_of(run: str | Path, prior: str = "router") -> Parts:
    """What the mixture of a finished run is made of; arguments and errors as of `load_mixture`."""
    folder = Folder(run)
    domains = specialists_of(folder)
    import_plugins(folder)
    router = _router(folder)
    if router is not None:
        if set(router.domains) != set(domains):
            raise UserError(f"{folder.uri}: the specialists are not those of its router; start the run again")
        domains = router.domains
    places = {domain: (folder / f"{SPECIALISTS}/{domain}").address for domain in domains}
    if _finished(folder):
        places[BASE] = (folder / BASE).address
    first = local_copy(next(iter(places.values())))
    start: Prior | None = None
    if prior == "router" and router is not None:
        start = load_prior(router, local_copy((folder / ROUTER).address), BASE in places)
    return Parts(places, Encoder(first), _length(first), start or UniformPrior(len(places)))


def load_mixture(
    run: str | Path,
    device: str = "cpu",
    prior: str = "router",
    gate: Gate | None = None,
    update: Update | None = None,
) -> Mixture:
    """The specialists of a finished run and its base as one model.

    Args:
        run: path or URI of the run folder.
        device: where the models run, as torch names it.
        prior: where the weights start: "router" (by the prompt's first characters) or "uniform".
        gate: when a model stops running. update: how the weights move. Defaults as of `Mixture`.

    Returns:
        The mixture, ready to score and to write.

    Raises:
        UserError: the folder has no specialists, they cannot be read, or a plugin of the run cannot be imported.
    """
    parts = parts_of(run, prior)
    models: dict[str, Any] = {name: load_exported(local_copy(place)).to(device) for name, place in parts.places.items()}
    return Mixture(models, parts.encoder, parts.max_length, parts.prior, gate, update)


def specialists_of(run: Folder) -> list[str]:
    """The domains that a run has a specialist for.

    Raises:
        UserError: it has none, or it does not exist.
    """
    domains = (run / SPECIALISTS).folders()
    if not domains:
        if run.is_local and not run.local_path().exists():
            raise UserError(f"{run.uri} does not exist: give the folder of a finished run, such as runs/demo")
        raise UserError(f"{run.uri} has no specialists: give the folder of a run that went at least that far")
    return domains


def import_plugins(run: Folder) -> None:
    """Import the plugins that the run was made with: its router's embedder may be one of theirs.

    Raises:
        UserError: one of them cannot be imported here.
    """
    if not run.exists(_CONFIG):
        return
    config = yaml_text.read(run.read(_CONFIG))
    plugins = config.get("plugins") if isinstance(config, dict) else None
    load_plugins(plugins if isinstance(plugins, list) else [])


def alone(mixture: Mixture) -> dict[str, Mixture]:
    """Each model of a mixture by itself, as a mixture of one: the models are shared."""
    return {
        name: Mixture({name: model}, mixture.encoder, mixture.max_length)
        for name, model in zip(mixture.names, mixture.models, strict=True)
    }


def _finished(folder: Folder) -> bool:
    """Whether the base is there for use. What the first release left in its folder was to continue training from."""
    return folder.exists(f"{BASE}/{CARD}") and "use" in folder.read_json(f"{BASE}/{CARD}")


def _router(folder: Folder) -> Router | None:
    """The run's router; runs of the first release have none beside their models."""
    if not folder.exists(f"{ROUTER}/router.json"):
        return None
    return Router.load(local_copy((folder / ROUTER).address))


def _length(model: Path) -> int:
    """Tokens of context: what the model has positions for."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model, local_files_only=True, trust_remote_code=False)
    return int(getattr(config, "max_position_embeddings", None) or _LENGTH)
