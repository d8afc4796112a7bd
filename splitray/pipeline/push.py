"""A finished and verified run, uploaded to a repository of the Hugging Face hub."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from splitray.errors import StageError, UserError, check_choice
from splitray.export.facts import BLANK
from splitray.pipeline.run_folder import stages_of
from splitray.pipeline.verify import RunCheck
from splitray.results.exported import ExportRecord
from splitray.results.folders import CARD, CHECKSUMS, DOCUMENTS, MOE, README
from splitray.storage.folder import Folder

_log = logging.getLogger(__name__)
TOKEN = "HF_TOKEN"  # the hub's own name for it


@dataclass(frozen=True)
class Upload:
    """One file: its name in the repository, where it lies, its size, and its SHA-256 where one is recorded."""

    name: str
    folder: Folder
    file: str
    bytes: int
    sha256: str | None

    def local(self) -> Path:
        """A local path of the file; its content is compared with the SHA-256."""
        return self.folder.fetch(self.file, self.sha256)


@dataclass(frozen=True)
class Batch:
    """Files that are committed together: those of one model, or the documents of the whole run."""

    title: str
    files: tuple[Upload, ...]


def batches(run: RunCheck, model: str | None = None) -> list[Batch]:
    """What is uploaded of a checked run, commit by commit; the card of the repository comes last.

    Configuration, events and report stay here: they name paths and machines.

    Args:
        model: the folder of one model, which becomes the whole repository; None for all models in folders.

    Raises:
        UserError: the run is not finished, it has no cards, or no such model.
    """
    folder = run.folder
    assert run.config is not None, "the check has read it"
    if lacking := [stage for stage in stages_of(run.config) if stage not in run.records]:
        raise UserError(
            f"{folder.uri} is not finished: stage {lacking[0]} is missing. Finish it with splitray run, then push"
        )
    places = [*run.models, *([MOE] if folder.exists(f"{MOE}/{CARD}") else [])]
    if model is not None:
        check_choice("model", model, places)
        return [Batch(model, tuple(_files(folder / model, "")))]
    found = [Batch(place, tuple(_files(folder / place, f"{place}/"))) for place in places]
    return [*found, Batch("card", tuple(_documents(folder, "")))]


def _files(folder: Folder, at: str) -> Iterator[Upload]:
    """The files of one exported folder with its documents. Others beside them are no part of it."""
    record = ExportRecord.read(folder)
    assert record is not None, "the check has read it"
    for name, stored in record.files.items():
        yield Upload(f"{at}{name}", folder, name, stored.bytes, stored.sha256)
    yield Upload(f"{at}{CHECKSUMS}", folder, CHECKSUMS, folder.size(CHECKSUMS) or 0, None)
    if record.documents:
        yield from _documents(folder, at)


def _documents(folder: Folder, at: str) -> Iterator[Upload]:
    for name in DOCUMENTS:
        size = folder.size(name)
        if size is None:
            raise UserError(f"{folder.uri}/{name} is missing: splitray export writes it")
        yield Upload(f"{at}{name}", folder, name, size, None)


def blanks(parts: list[Batch]) -> dict[str, int]:
    """Documents that have blanks to fill in, with how many."""
    found = {}
    for upload in (upload for part in parts for upload in part.files if upload.file in DOCUMENTS):
        if count := upload.folder.read(upload.file).decode().count(BLANK):
            found[upload.name] = count
    return found


def token_of_environment() -> str:
    """The hub's token.

    Raises:
        UserError: the environment has none. A stored login is not used: what is published must be said.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise UserError(f"the hub's token is taken from the environment alone: set {TOKEN}, with the right to write")
    return token


def push(parts: list[Batch], repository: str, public: bool, log: Callable[[str], object]) -> str:
    """Upload batches, one commit each; the address of the repository.

    A second call sends only what the repository lacks. Every card is checked by the hub before anything is sent.

    Args:
        public: whether a new repository is public. One that is there stays as it is.
        log: is told of every batch that is there.

    Raises:
        UserError: there is no token, or the hub refuses it, the repository or a card.
        StageError: the upload was cut off.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    token = token_of_environment()
    with _explained(repository):
        api = HfApi(token=token)
        _check_cards(parts)
        address = str(api.create_repo(repository, private=not public, exist_ok=True))
        for part in parts:
            operations: list[Any] = [CommitOperationAdd(u.name, u.local()) for u in part.files]
            api.create_commit(repository, operations, commit_message=f"splitray: {part.title}")
            log(f"there: {part.title} ({len(part.files)} files)")
    return address


def _check_cards(parts: list[Batch]) -> None:
    """Have the hub validate the metadata of every card; it does so by itself only for the one at the root."""
    from huggingface_hub import ModelCard

    for upload in (upload for part in parts for upload in part.files if upload.file == README):
        try:
            ModelCard(upload.folder.read(upload.file).decode()).validate(repo_type="model")
        except ValueError as error:
            raise UserError(f"{upload.folder.uri}/{README}: the hub refuses its metadata: {error}") from None
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{upload.folder.uri}/{README}: its metadata is no YAML: {reason}") from None


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """The hub's errors as ours. Its words name no token."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    from splitray.runtime.quiet import no_bars

    try:
        with no_bars():
            yield
    except HFValidationError as error:
        raise UserError(f"--to {repository}: {error}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        reason = " ".join(str(error).split())
        if status in (401, 403, 404):
            raise UserError(f"the hub refuses {repository} ({status}): {reason}; check {TOKEN} and the name") from None
        raise StageError(f"the upload to {repository} was cut off ({status}): {reason}; {_AGAIN}") from None
    except (httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
        raise StageError(f"the upload to {repository} was cut off: {error}; {_AGAIN}") from None


_AGAIN = "the same command goes on with what is not there yet"
