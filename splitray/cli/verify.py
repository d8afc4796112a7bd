"""`splitray verify FOLDER`: whether a run folder, or an exported model, is what was written."""

import argparse
from typing import TYPE_CHECKING

from splitray.cli.command import Command
from splitray.errors import CorruptError, UserError
from splitray.storage.folder import Folder
from splitray.storage.redact import refuse_secrets
from splitray.units import counted

if TYPE_CHECKING:
    from splitray.results.findings import Findings

_CURE = "Put it into the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="path or URI of a run folder, or of an exported model in it")
    parser.add_argument("--store", metavar="STORE", help="also compare with this store: weights, corpus and losses")


def _run(options: argparse.Namespace) -> None:
    from splitray.pipeline.verify import RunCheck, is_run, verify
    from splitray.results.findings import Findings

    refuse_secrets("FOLDER", options.folder, _CURE)
    refuse_secrets("--store", options.store or "", _CURE)
    folder = Folder(options.folder)
    if options.store is None:
        findings = verify(folder)
    elif not is_run(folder):
        raise UserError(f"--store: {folder.uri} is no run folder, and only those are compared with a store")
    else:
        from splitray.pipeline.verify_store import check_store
        from splitray.storage.store import Store

        findings = Findings()
        check = RunCheck(folder, findings)
        check.check()
        check_store(check, Store(options.store))
    report(folder, findings)


def report(folder: Folder, findings: "Findings") -> None:
    """Print what was found.

    Raises:
        CorruptError: there are faults.
    """
    for fault in findings.faults:
        print(f"fault: {fault}")
    for remark in findings.remarks:
        print(f"remark: {remark}")
    if findings.faults:
        raise CorruptError(f"{folder.uri} is not what was written: {counted(len(findings.faults), 'fault')}")
    print(f"{folder.uri} is what was written: {findings.counts}")


COMMAND = Command(
    "Recompute checksums and lineage of a run folder or an exported model, and say what is not as it was written.",
    _add_arguments,
    _run,
    "It needs no cluster. With --store it also compares every weight with the store.",
)
main = COMMAND.main
