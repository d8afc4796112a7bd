"""Settings of the corpus stage."""

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from splitray.corpus.embedders import SentenceSettings, TfidfSettings, find_embedder, section_owner
from splitray.errors import UserError
from splitray.settings import Place, Settings, later, operational

RESERVED = {  # no domain has these names: what stands beside domains in results, exams and servers
    "mixture": "all domains together",
    "base": "the model before the split",
    "unsplit": "the model that is never split",
    "auto": "a server's choice among the models",
}
DOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Name = Annotated[str, StringConstraints(min_length=1)]
Source = Annotated[Place, StringConstraints(min_length=1)]


class ClusterSettings(Settings):
    """k-means on a sample of the training documents, then one streaming assignment of all documents."""

    sample: int = Field(
        10_000, ge=1, description="Training documents that IDF, SVD and k-means see, chosen by hash of their ids."
    )
    iterations: int = Field(
        30, ge=1, description="Iterations of k-means in a restart. The objective no longer changes after 20."
    )
    restarts: int = Field(
        20, ge=1, description="Starts of k-means. The best objective wins: 4 in 10 find six domains, 0.1 s each."
    )
    spherical: bool = Field(True, description="Unit centroids and cosine similarity, right for text of any length.")
    balanced: bool = Field(
        False, description="Equal bytes of text a domain: an offset on each centroid enforces the capacities."
    )
    tolerance: float = Field(
        0.02,
        gt=0,
        lt=1,
        description="Only where balanced: how far a domain may lie from its equal share of the sample.",
    )
    gpus: float = operational(
        0.0,
        "GPUs asked of Ray for k-means and the placing of its sample, by faiss-gpu-cu12; 0 runs them on the CPU.",
        ge=0,
        le=1,
    )


class TokenizerSettings(Settings):
    """Byte-level BPE trained on the training documents, or a Hugging Face tokenizer as it is."""

    source: Name = Field(
        "bpe", description="The word bpe trains one. Else the path or hub name of a Hugging Face tokenizer."
    )
    vocabulary: int = Field(
        8192,
        ge=257,
        le=2**20,
        description="For bpe only: tokens, the end token included. Small models want small tables.",
    )
    sample_megabytes: float = Field(
        16.0, gt=0, description="For bpe only: MB of training text it is fitted on. Merges settle within some MB."
    )
    model_max_length: int = Field(
        2048, ge=1, description="For bpe only: tokens above which users of the saved tokenizer are warned."
    )
    max_lost_share: float = operational(
        0.01,
        "A tokenizer is refused that cannot write more than this share of a domain's characters, blanks left out.",
        ge=0,
        le=1,
    )


class CorpusSettings(Settings):
    """From files to token shards by domain.

    Beside the fields below it takes the section of every registered embedder, by the section's name.
    """

    model_config = ConfigDict(extra="allow")

    sources: list[Source] = Field(
        min_length=1,
        description="Files, folders, globs, s3:// or gs:// URIs, or the word 'environment' (this Python's own text). "
        "Domains are found, unless they are given: `{law: PATH, code: [PATH, PATH]}` names sources as domains.",
    )
    source_domains: list[Name] | None = later(
        None, "The domain of each source, where they are named. It is written for you; name the sources instead."
    )
    domain_column: Name | None = later(
        None, "Column whose value is a document's domain, instead of found clusters; it has as many values as domains."
    )
    format: Literal["auto", "parquet", "arrow", "csv", "jsonl", "json", "text"] = Field(
        "auto", description="How files are read. With auto the ending decides, and unknown endings are read as text."
    )
    text_column: Name = Field("text", description="Column or field that holds the text.")
    id_column: Name | None = Field(None, description="Column with document ids; default: file name and row number.")
    group_column: Name | None = Field(
        None, description="Column whose equal values stay on one side of the split; default: the source file."
    )
    max_documents: int | None = Field(
        None, ge=1, description="A fixed sample of this many documents is kept, chosen by hash of their ids."
    )
    min_characters: int = Field(
        100, ge=1, description="Shorter documents are dropped. They have too few words to tell a domain by."
    )
    max_characters: int = Field(
        10_000, ge=200, description="Longer documents are cut at line ends. The pieces stay on one side of the split."
    )
    environment_megabytes: float = Field(
        16.0, gt=0, description="Most MB read of the source 'environment', shared by code, headers, prose and licences."
    )
    validation_share: float = Field(
        0.05, gt=0, le=0.5, description="Expected share of groups held out; 5 % of 10 MB still measures a loss to 1 %."
    )
    near_duplicate: float | None = Field(
        0.8,
        gt=0,
        le=1,
        description="A training document is dropped when it shares this much of its text with another one, or with a "
        "validation document.",
    )
    domains: int = Field(
        ge=1, description="K, the number of domains and so of specialists. Sources that are named as domains set it."
    )
    embedder: Name = Field(
        "tfidf",
        description="What places a document: tfidf (fast, needs no model), sentence-transformers, or one of your own.",
    )
    tfidf: TfidfSettings = TfidfSettings()
    sentence: SentenceSettings = SentenceSettings()
    cluster: ClusterSettings = ClusterSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    shard_tokens: int = Field(
        2**25, ge=2**10, description="Tokens a shard at most (a longer document has its own); 64 MiB of uint16."
    )
    workers: int | None = operational(
        None,
        "Most tasks (actors of a sentence model) that run at once in each pass; default: as many as fit, also on nodes "
        "that an autoscaler adds meanwhile.",
        ge=1,
    )
    memory_gigabytes: float = operational(
        1.0, "Memory asked of Ray for each task. A task holds one block of at most 64 MB of text.", gt=0
    )

    @property
    def embedder_settings(self) -> Settings:
        """The section of the embedder that is used."""
        section: Settings = getattr(self, find_embedder(self.embedder).section)
        return section

    @property
    def given(self) -> bool:
        """Whether the domains are given, and not found."""
        return self.domain_column is not None or self.source_domains is not None

    @property
    def given_names(self) -> list[str] | None:
        """The names of given domains, sorted; None where they are found, or known only once a column is read."""
        return None if self.source_domains is None else sorted(set(self.source_domains))

    @model_validator(mode="before")
    @classmethod
    def _named_sources(cls, values: Any) -> Any:
        """Read `sources: {law: PATH, ...}` as a list of sources, and one of their domains beside it."""
        if not isinstance(values, dict) or not isinstance(values.get("sources"), dict):
            return values
        if values.get("source_domains") is not None:
            raise ValueError("sources are named already: leave source_domains out")
        pairs = [
            (place, str(name))
            for name, places in values["sources"].items()
            for place in (places if isinstance(places, list | tuple) else [places])
        ]
        named = {"sources": [place for place, _ in pairs], "source_domains": [name for _, name in pairs]}
        return {"domains": len(values["sources"]), **values, **named}

    @field_validator("source_domains")
    @classmethod
    def _fit_names(cls, names: list[str] | None) -> list[str] | None:
        lowered: dict[str, str] = {}
        for name in names or []:
            if not DOMAIN.fullmatch(name):
                raise ValueError(
                    f"{name!r} cannot be a domain's name: it has letters, digits, dots, dashes and underscores, at "
                    "most 64, and a letter or a digit first"
                )
            if name.lower() in RESERVED:
                raise ValueError(f"no domain can be called {name}: that is {RESERVED[name.lower()]}")
            if lowered.setdefault(name.lower(), name) != name:
                raise ValueError(f"{lowered[name.lower()]} and {name} differ in case alone: some disks hold one only")
        return names

    @model_validator(mode="before")
    @classmethod
    def _sections(cls, values: Any) -> Any:
        """Check the embedder's name, and give the sections of embedders that have no field of their own their type."""
        if not isinstance(values, dict):
            return values
        embedder = values.get("embedder", "tfidf")
        faults: list[InitErrorDetails] = []
        given = {
            name: value for name, value in values.items() if name not in cls.model_fields and name not in cls.renamed
        }
        if isinstance(embedder, str) and embedder:
            try:
                section = find_embedder(embedder).section
                if section not in cls.model_fields:
                    given.setdefault(section, {})
            except UserError as error:
                unknown = PydanticCustomError("unknown_embedder", "{reason}", {"reason": str(error)})
                faults.append(InitErrorDetails(type=unknown, loc=("embedder",), input=embedder))
        for name, value in given.items():
            owner = section_owner(name)
            if owner is None:
                faults.append(InitErrorDetails(type="extra_forbidden", loc=(name,), input=value))
                continue
            try:
                given[name] = owner.settings_class.model_validate(value)
            except ValidationError as error:
                faults += [_inside(name, fault) for fault in error.errors()]
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults)
        return values | given

    @model_validator(mode="after")
    def _one_kind_of_domains(self) -> "CorpusSettings":
        if not self.given:
            return self
        if self.domain_column is not None and self.source_domains is not None:
            raise ValueError("domains come from domain_column or from the names of sources: give one of them")
        if self.cluster.balanced:
            raise ValueError("cluster.balanced balances domains that are found; these are given: leave it out")
        if self.source_domains is not None and len(self.source_domains) != len(self.sources):
            raise ValueError(
                f"source_domains names {len(self.source_domains)} sources of {len(self.sources)}: give a name to each, "
                "or write sources as {DOMAIN: PATH, ...}"
            )
        names = self.given_names
        if names is not None and len(names) != self.domains:
            raise ValueError(
                f"domains is {self.domains}, but sources names {len(names)} ({', '.join(names)}): leave domains out"
            )
        return self

    @model_validator(mode="after")
    def _lengths(self) -> "CorpusSettings":
        if self.min_characters > self.max_characters:
            raise ValueError(
                f"min_characters {self.min_characters} is above max_characters {self.max_characters}: nothing is left"
            )
        return self


def _inside(section: str, fault: Any) -> InitErrorDetails:
    """A fault of a section as one of the settings around it."""
    details = InitErrorDetails(type=fault["type"], loc=(section, *fault["loc"]), input=fault["input"])
    if "ctx" in fault:
        details["ctx"] = fault["ctx"]
    return details
