"""`splitray push RUN --to HUB_REPO`: upload a finished and verified run."""

import argparse

from splitray.cli.command import Command
from splitray.errors import UserError
from splitray.storage.folder import Folder


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="path or URI of a finished run's folder")
    parser.add_argument("--to", required=True, metavar="HUB_REPO", help="the repository, OWNER/NAME")
    parser.add_argument("--model", metavar="FOLDER", help="one model alone, such as moe or specialists/NAME")
    parser.add_argument("--public", action="store_true", help="create the repository public; default private")
    parser.add_argument("--dry-run", action="store_true", help="list what would be uploaded; needs no token")


def _run(options: argparse.Namespace) -> None:
    from splitray.pipeline.push import batches, blanks, push
    from splitray.pipeline.verify import RunCheck

    parts = batches(RunCheck.of(Folder(options.run)), options.model)
    empty = blanks(parts)
    if options.dry_run:
        for upload in (upload for part in parts for upload in part.files):
            print(f"{upload.bytes:14,} bytes  {upload.name}")
        total = sum(upload.bytes for part in parts for upload in part.files)
        kind = "public" if options.public else "private"
        print(f"{total:14,} bytes in {sum(len(part.files) for part in parts)} files, for {options.to} ({kind})")
    for name, count in empty.items():
        print(f"{name} has {count} blanks to fill in")
    if options.dry_run:
        print("nothing was uploaded")
        return
    if options.public and empty:
        raise UserError("a public repository gets no documents with blanks: fill them in, the licence first")
    print(push(parts, options.to, options.public, print))


COMMAND = Command(
    "Upload a finished and verified run to a repository of the Hugging Face hub, private by default.",
    _add_arguments,
    _run,
    "The token is read from HF_TOKEN alone. The same command continues an upload that was cut off.",
)
main = COMMAND.main
