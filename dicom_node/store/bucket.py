"""A part of an S3-compatible bucket, by boto3: the extra ``s3``.

Keys and endpoint come as boto3 finds them: ``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, a role of the
machine; ``AWS_ENDPOINT_URL`` and ``AWS_CA_BUNDLE``. None of them is said or kept here.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from dicom_node.errors import ConfigError, StoreError, TemporaryError

#: Tries of a request, the first among them; boto3 waits longer after each.
TRIES: Final = 5
_WAIT_S: Final = {"connect_timeout": 10, "read_timeout": 60}
#: Requests at a time, of all threads.
CONNECTIONS: Final = 32
#: Deletions at a time.
_AT_ONCE: Final = 8
_ABSENT: Final = frozenset({"NoSuchKey", "404", "NotFound"})
_NO_BUCKET: Final = frozenset({"NoSuchBucket"})
_DENIED: Final = frozenset(
    {"AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)
_LATER: Final = frozenset({"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout"})
_FIRST_SERVER_FAULT: Final = 500


class Bucket:
    """A place in a bucket.

    Parameters
    ----------
    bucket, prefix : str
        Objects are below ``prefix/``, or anywhere where it is empty.

    Raises
    ------
    ConfigError
        When boto3 is missing, or what it reads of the environment will not do.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket, self._below = bucket, f"{prefix}/" if prefix else ""
        self.address = f"s3://{bucket}/{prefix}".rstrip("/")
        try:
            boto3, core = import_module("boto3"), import_module("botocore.config")
            self._faults = import_module("botocore.exceptions")
        except ModuleNotFoundError:
            raise ConfigError(
                f"{self.address}: boto3 is missing; pip install 'dicom-node[s3]', or name a folder"
            ) from None
        how = core.Config(
            retries={"mode": "standard", "total_max_attempts": TRIES},
            max_pool_connections=CONNECTIONS,
            # other stores than Amazon's may not know its newer checksums; shards have their own
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            **_WAIT_S,
        )
        with self._in_words("asked"):
            # a session of its own: the common one is not for threads
            self._client = boto3.session.Session().client("s3", config=how)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin so, sorted."""
        with self._in_words("listed"):
            pages = self._client.get_paginator("list_objects_v2")
            found = [
                one["Key"].removeprefix(self._below)
                for page in pages.paginate(Bucket=self._bucket, Prefix=self._below + prefix)
                for one in page.get("Contents", [])
            ]
        yield from sorted(found)

    def old_keys(self) -> Iterator[str]:
        """Yield the keys of which a version is kept, those of deleted objects among them."""
        with self._in_words("listed"):
            found = {key.removeprefix(self._below) for key, _ in self._versions("")}
        yield from sorted(found)

    def covered_keys(self) -> Iterator[str]:
        """Yield the key of each version that no reader is given any more."""
        with self._in_words("listed"):
            pages = self._client.get_paginator("list_object_versions")
            found = [
                one["Key"].removeprefix(self._below)
                for page in pages.paginate(Bucket=self._bucket, Prefix=self._below)
                for one in page.get("Versions", [])
                if not one["IsLatest"]
            ]
        yield from sorted(found)

    #: Who asks an absent bucket for anything is told so.
    is_there: Final = True

    def read(self, key: str) -> bytes | None:
        """Return an object, None where there is none."""
        return self._got(key)

    def part(self, key: str, offset: int, count: int) -> bytes | None:
        """Return so many bytes of an object, None where there is none."""
        return self._got(key, Range=f"bytes={offset}-{offset + count - 1}")

    def fetch(self, key: str, path: Path) -> bool:
        """Copy an object into a file that is there, and say whether there is such an object."""
        with self._in_words("read"):
            try:
                body = self._client.get_object(**self._named(key))["Body"]
            except self._faults.ClientError as exc:
                if _code(exc) in _ABSENT:
                    return False
                raise
            with body, path.open("r+b") as file:
                for piece in body.iter_chunks(1 << 20):
                    file.write(piece)
                file.truncate()
        return True

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, of bytes or of a file, in one request: no part of one stays behind."""
        with self._in_words("written"):
            if isinstance(content, bytes):
                self._client.put_object(**self._named(key), Body=content)
                return
            with content.open("rb") as file:
                self._client.put_object(**self._named(key), Body=file)

    def delete(self, prefix: str) -> int:
        """Delete all objects below a prefix, every version of them; return how many there were."""
        with self._in_words("deleted from"):
            found = list(self._versions(prefix))
            # one by one, several at a time: deletion by lists wants checksums that not all know
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(self._delete, found))
            if any(self._versions(prefix)):
                raise TemporaryError(
                    f"{self.address}: objects that were deleted are still there, as under a lock "
                    "(object lock) or while somebody writes; see to it and run the command again"
                )
        return len(found)

    def _delete(self, which: tuple[str, str]) -> None:
        key, version = which
        of_version = {"VersionId": version} if version else {}
        self._client.delete_object(Bucket=self._bucket, Key=key, **of_version)

    def _versions(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield key and version of everything below a prefix, marks of deletion among them."""
        pages = self._client.get_paginator("list_object_versions")
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._below + prefix):
            for one in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
                yield one["Key"], one.get("VersionId") or ""

    def _got(self, key: str, **how: str) -> bytes | None:
        with self._in_words("read"):
            try:
                with self._client.get_object(**self._named(key), **how)["Body"] as body:
                    return bytes(body.read())
            except self._faults.ClientError as exc:
                if _code(exc) in _ABSENT:
                    return None
                raise

    def _named(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._below + key}

    @contextmanager
    def _in_words(self, done: str) -> Iterator[None]:
        """Say what went wrong as who reads it can mend it; boto3's words may hold keys."""
        try:
            yield
        except self._faults.ClientError as exc:
            raise self._refused(exc, done) from None
        except (self._faults.NoCredentialsError, self._faults.PartialCredentialsError):
            raise ConfigError(
                f"{self.address}: no keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "AWS_PROFILE, as for any program that speaks S3"
            ) from None
        except (
            self._faults.ConnectionError,
            self._faults.HTTPClientError,
            self._faults.IncompleteReadError,
        ) as exc:
            raise TemporaryError(
                f"{self.address}: the storage gives no answer ({type(exc).__name__}, {TRIES} "
                "tries); see that it runs and that AWS_ENDPOINT_URL and AWS_CA_BUNDLE are right, "
                "then give the same command again"
            ) from None
        except (self._faults.BotoCoreError, ValueError) as exc:
            raise ConfigError(
                f"{self.address}: cannot be {done} ({type(exc).__name__}); see the AWS_... "
                "variables of the environment"
            ) from None

    def _refused(self, exc: Any, done: str) -> Exception:
        code = _code(exc)
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _NO_BUCKET:
            return StoreError(f"{self.address}: no such bucket; make it, or correct the address")
        if code in _DENIED:
            return StoreError(
                f"{self.address}: may not be {done} ({code}); see that the keys are right: to "
                "train they need to list and read there, to export and to erase also to write and "
                "delete, old versions too where the bucket keeps them"
            )
        if code in _LATER or status >= _FIRST_SERVER_FAULT:
            return TemporaryError(
                f"{self.address}: the storage is not well ({code}, {TRIES} tries); "
                "give the same command again later"
            )
        return StoreError(f"{self.address}: cannot be {done} ({code}); ask who runs the storage")


def _code(exc: Any) -> str:
    return str(exc.response.get("Error", {}).get("Code", "?"))
