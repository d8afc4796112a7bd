"""What a check of a folder has found."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fault:
    """Something that is not as it was recorded: where, and what."""

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass
class Findings:
    """Faults and remarks of one check, and how much was looked at.

    Args:
        remarks: what is worth knowing and no fault.
        files: whose checksum was compared. records: with a checksum inside them. lineages: keys that were recomputed.
        tensors: compared with the store's.
    """

    faults: list[Fault] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    files: int = 0
    records: int = 0
    lineages: int = 0
    tensors: int = 0

    def fault(self, place: str, what: object) -> None:
        self.faults.append(Fault(place, " ".join(str(what).split())))

    def remark(self, text: str) -> None:
        self.remarks.append(text)

    @property
    def counts(self) -> str:
        """How much was looked at, in words."""
        parts = [f"{self.files} files", f"{self.records} records", f"{self.lineages} lineages"]
        return ", ".join(parts + ([f"{self.tensors} tensors"] if self.tensors else []))
