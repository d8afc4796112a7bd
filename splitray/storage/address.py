"""The one parser of addresses: run folder, store, sources, SPLITRAY_HOME and what stands on a command line.

    runs/demo, ~/runs/demo, /data/runs     a local path, taken as it is: `#`, `?` and `%` are characters of a name
    file:///data/my%20runs                 a local path as a URI, percent-encoded
    s3://bucket/runs/demo?region=x         an object store, with the options that `pyarrow.fs` takes

In a URI `%20` is a blank and `#` a character of a name, for object stores have no fragments. A `?` begins the options
where `name=` follows, else it is part of a name or a pattern.
"""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, unquote

from pyarrow import fs

from splitray.errors import UserError
from splitray.storage.redact import LOGIN, secrets, without_query

UNFIT = re.compile(r"[\x00-\x1f\x7f]")  # no file name of ours holds them, and file systems differ in what they take
_BUCKETS = ("s3", "gs", "gcs")
_OTHERS = ("abfs", "abfss", "hdfs", "viewfs", "hf")  # what pyarrow opens besides; not tested here
_KNOWN = ("file", *_BUCKETS, *_OTHERS)
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ONE_SLASH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
_NO_SLASH = re.compile(rf"({'|'.join(_KNOWN)}):(?!/)", re.IGNORECASE)
_WINDOWS = re.compile(r"[A-Za-z]:(?:[\\/]|$)|[^/~]*\\")  # a relative path of ours has no backslash
_WINDOWS_URI = re.compile(r"/[A-Za-z][:|](?:/|$)")
# what a shell or a template was to fill in
_VARIABLE = re.compile(
    r"\$\{\w+\}|(?:^|/)\$[A-Za-z_]\w*(?=/|$)|\$\([^)]+\)|`[^`]+`|\{\{.+\}\}|<[\w -]+>|(?:^|/)%[A-Z_]+%(?=/|$)"
)
_TYPED = re.compile(rf"({'|'.join(_KNOWN)})[^\w:/]?//", re.IGNORECASE)  # s3//bucket, s3.//bucket
_ARN = re.compile(r"arn:aws[\w-]*:s3:::")
_HOST = re.compile(r"[\w.-]+@[\w.-]+:|[\w-]+(?:\.[\w-]+)+:/(?!/)")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_AMAZON = re.compile(r"\.s3[.-](?:[\w-]+\.)*amazonaws\.com$")
_OPTION = re.compile(r"[?&](region|scheme|endpoint_override|allow_bucket_creation)(=|$)")
_OPTIONS = re.compile(r"\?(?=[A-Za-z0-9_.-]+=)")
_ALIKE = {"s3a": "s3", "s3n": "s3", "s3fs": "s3", "gcsfs": "gs", "az": "abfs", "adl": "abfs"}
_GCS_LIMIT = 15  # seconds that Google's client tries one request; its own default is a quarter of an hour
_ESCAPED = str.maketrans({"%": "%25", "?": "%3F", "#": "%23", " ": "%20"})


@dataclass(frozen=True)
class Address:
    """Where a file or folder lies.

    Attributes:
        scheme: "" for a local path, else `file`, `s3`, `gs`, ... in small letters.
        path: decoded; on local disk absolute, on an object store the bucket and the key below it.
        login: what stands before the `@`; may hold a secret.
        options: what stands behind the `?`; may hold a secret.
    """

    scheme: str
    path: str
    login: str = field(default="", repr=False)
    options: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str | Path, base: "Address | None" = None) -> "Address":
        """The address that a text names.

        Args:
            base: what a relative path is relative to; the current folder by default.

        Raises:
            UserError: it names no place, or not in the way that was meant; the message says how to write it.
        """
        text = str(text)
        if not text or UNFIT.search(text):
            raise UserError(f"{text!r} names no folder: give a path or a URI without control characters")
        shown = without_query(text)
        if text[0].isspace():
            raise UserError(f"{shown!r} begins with a blank: leave it out, or write ./ before it")
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            raise UserError(f"{shown} has quotes around it: leave them out, or write ./ before it")
        if _VARIABLE.search(text) and not Path(text).exists():
            raise UserError(f"{shown}: variables such as $HOME are not filled in here; write what they stand for")
        if scheme := _URI.match(text):
            return _uri(scheme[1].lower(), text)
        if _WINDOWS.match(text):
            raise UserError(
                f"{shown} is a path of Windows: splitray runs on Linux and macOS, give a path there or a URI"
            )
        if arn := _ARN.match(text):
            raise UserError(f"{shown} is no URI: write s3://{text[arn.end() :]}")
        if typed := _TYPED.match(text):
            slashes = ":///" if typed[1].lower() == "file" else "://"
            raise UserError(f"{shown} is no URI: write {typed[1].lower()}{slashes}{shown[typed.end() :].lstrip('/')}")
        if _HOST.match(text):
            raise UserError(f"{shown} is a path of another machine: give one that this machine mounts, or a URI")
        if "://" in text:
            raise UserError(f"{shown} has no scheme before its '://': give a local path, file://, s3:// or gs://")
        if broken := _ONE_SLASH.match(text) or _NO_SLASH.match(text):
            scheme_, rest = broken[1].lower(), shown[broken.end() :].lstrip("/")
            if scheme_ not in _KNOWN and scheme_ not in _ALIKE:
                raise UserError(
                    f"{shown} is no URI, and {scheme_} no storage that splitray opens: give a local path, file://, "
                    f"s3:// or gs://; write ./{shown} where a local path is meant"
                )
            right = f"file:///{rest}" if scheme_ == "file" else f"{_ALIKE.get(scheme_, scheme_)}://{rest}"
            raise UserError(f"{shown} is no URI: write {right}, or ./{shown} where a local path is meant")
        return _local(text, base)

    @property
    def is_local(self) -> bool:
        return self.scheme in ("", "file")

    @property
    def uri(self) -> str:
        """The address fit for logs: without login and options."""
        return self._written("")

    @property
    def full(self) -> str:
        """The address with login and options: `parse` gives the same back. Not for logs."""
        written = self._written(f"{self.login}@" if self.login else "")
        return f"{written}?{self.options}" if self.options else written

    def _written(self, login: str) -> str:
        path = os.path.normpath(self.path) if self.is_local else self.path
        return f"{self.scheme}://{login}{path.translate(_ESCAPED)}" if self.scheme else path

    @property
    def parent(self) -> "Address | None":
        """The folder around it, with the same login and options; None for a bucket and for the root of a disk."""
        path = os.path.normpath(self.path) if self.is_local else self.path
        above, slash, name = path.rpartition("/")
        if not name or not slash or (not above and not self.is_local):
            return None
        return replace(self, path=above or "/")

    def __truediv__(self, name: str) -> "Address":
        return replace(self, path=f"{self.path.rstrip('/')}/{name}")

    def open(self) -> tuple[fs.FileSystem, str]:
        """The file system, and the path on it.

        Raises:
            UserError: the storage refuses the options or the login, or is not there to be asked.
        """
        if self.is_local:
            return fs.LocalFileSystem(), os.path.normpath(self.path)
        login = f"{quote(unquote(self.login), safe=':')}@" if self.login else ""  # keys hold slashes
        given = [self.options] if self.options else []
        if self.scheme in ("gs", "gcs") and "retry_limit_seconds=" not in self.options:
            given.append(f"retry_limit_seconds={_GCS_LIMIT}")
        options = f"?{'&'.join(given)}" if given else ""
        bucket, slash, below = self.path.partition("/")
        path = "" if self.scheme in _BUCKETS else f"/{quote(below)}"
        uri = f"{self.scheme}://{login}{bucket}{path if slash else ''}{options}"
        try:
            system, opened = fs.FileSystem.from_uri(uri)
        except Exception as error:  # every client has errors of its own, some of them no OSError
            # pyarrow quotes the URI in its own words: where that would tell a secret, its reason is left out
            reason = " ".join(str(error).replace(uri, self.uri).split())
            safe = not any(part in reason for part in (*secrets(self.full), *secrets(uri)))
            raise UserError(f"cannot open the folder {self.uri}" + (f": {reason}" if safe else "")) from None
        return system, self.path if self.scheme in _BUCKETS else opened


def _local(text: str, base: Address | None) -> Address:
    path = os.path.expanduser(text)  # noqa: PTH111 - pathlib raises where there is no such user
    if path.startswith("~"):
        raise UserError(f"{text}: there is no user {path.partition('/')[0]}; write ./{text} where a name is meant")
    if os.path.isabs(path):  # noqa: PTH117
        return Address("", path)
    if base is None:
        return Address("", os.path.join(os.getcwd(), path))  # noqa: PTH109, PTH118
    if base.is_local:
        return base / path
    parts = os.path.normpath(path)
    if parts.startswith(".."):
        raise UserError(f"{text} lies outside of {base.uri}, which it is relative to: give a path below, or a URI")
    return base if parts == "." else base / parts


def _uri(scheme: str, text: str) -> Address:
    shown = without_query(text)
    if scheme not in _KNOWN:
        meant = f"write {_ALIKE[scheme]}://" if scheme in _ALIKE else "give a local path, file://, s3:// or gs://"
        raise UserError(f"{shown}: {scheme}:// is no storage that splitray opens; {meant}")
    found = LOGIN.search(text)
    login = found.group()[:-1] if found else ""
    rest = text[found.end() if found else text.index("://") + 3 :]
    at = _OPTIONS.search(rest)
    rest, options = (rest[: at.start()], rest[at.end() :]) if at else (rest, "")
    try:
        path = unquote(rest, errors="surrogateescape" if scheme == "file" else "strict")
    except UnicodeDecodeError:
        raise UserError(f"{shown}: its percent-encoding is not UTF-8") from None
    if UNFIT.search(path):
        raise UserError(f"{shown} names no folder: its percent-encoding hides control characters")
    if scheme == "file":
        if login or options:
            raise UserError(f"{shown}: file:// takes neither a login nor options; a '?' in a name is written %3F")
        if path.startswith("localhost/"):
            path = path.removeprefix("localhost")
        if rest.removeprefix("localhost").lstrip("/").startswith("~"):
            raise UserError(f"{shown}: file:// knows no home folder; write {rest.lstrip('/')}")
        if rest.split("/")[0] in (".", ".."):
            raise UserError(f"{shown}: a URI has no relative path; write {rest}")
        if _WINDOWS_URI.match(path):
            raise UserError(f"{shown} is a path of Windows: splitray runs on Linux and macOS, give a path there")
        if not path.startswith("/"):
            raise UserError(f"{shown} names another machine or a relative path: write file:///{path.lstrip('/')}")
        return Address(scheme, path)
    path = path.rstrip("/")
    parts = path.split("/")
    if not parts[0] and scheme in _BUCKETS:
        raise UserError(f"{shown} names no bucket: write {scheme}://BUCKET/PATH")
    if scheme in _BUCKETS and (fault := _bucket_fault(parts[0], scheme, "/".join(parts[1:]))):
        raise UserError(f"{shown}: {fault}")
    if scheme in _BUCKETS and (option := _OPTION.search(rest)):
        raise UserError(f"{shown}: {option[1]} stands in the path; options are written ?name=value&name=value")
    if text[-1].isspace():
        raise UserError(f"{shown!r} ends with a blank: leave it out, or write %20")
    if any(part in ("", ".", "..") for part in parts[1:]):
        raise UserError(f"{shown}: object stores know no '.', '..' or empty part of a path; leave them out")
    return Address(scheme, path, login, options)


def _bucket_fault(name: str, scheme: str, below: str) -> str | None:
    """Why a name is none that a bucket can have: those are letters, digits, dots, hyphens and underscores."""
    host, colon, port = name.partition(":")
    if colon and port.isdigit():
        there = below or "BUCKET"
        return f"{name} is a host with a port; write {scheme}://{there}?endpoint_override={name} for the storage there"
    if amazon := _AMAZON.search(host):
        return f"{name} is the bucket's host; write {scheme}://{name[: amazon.start()]}/{below}"
    if not _BUCKET.fullmatch(name):
        return f"no bucket is called {name!r}: its letters are a-z, 0-9, '.', '-' and '_'"
    return None
