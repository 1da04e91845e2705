"""Object stores: how we connect to them, and what their refusals mean.

Settings and credentials come from the environment, as the cloud's own tools
take them (``AWS_*``, ``GOOGLE_*``, ``AZURE_*``, and the profiles of the AWS
command line). They are never part of a URL, an attribute or a message.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cube.errors import StoreError, TransientError
from cube.urls import OBJECT_STORES, bucket_and_path, scheme, without_secrets

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PREFIXES = {"s3": ("AWS_",), "gs": ("GOOGLE_",), "az": ("AZURE_",), "memory": ()}

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_SKIP_SIGNATURE=true "
    "for public buckets",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or run 'gcloud auth application-default login'",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}

RENEWAL = timedelta(minutes=10)
"""For so long a temporary credential is good; obstore asks anew five minutes before."""

TIMEOUT_S = 60.0
"""For one request; a store that is silent for longer is asked again."""


def environment(url: str) -> tuple[tuple[str, str], ...]:
    """What the environment says of a URL's cloud; another environment is another connection."""
    wanted = (*_PREFIXES[scheme(url)], "QUADRAT_")
    return tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(wanted)))


def connect(url: str) -> ObjectStore:
    """A connection to the place of a normalised URL; nothing is asked of it yet.

    Raises:
        StoreError: The environment's settings contradict themselves.
    """
    from obstore import store

    kind = scheme(url)
    if kind == "memory":
        return store.MemoryStore()
    _check_endpoints(url)
    bucket, path = bucket_and_path(url)
    options: dict[str, Any] = {
        "prefix": path,
        "client_options": {
            "timeout": timedelta(seconds=_timeout_s()),
            "connect_timeout": "10s",
            "allow_http": _allows_http(url),
        },
        "retry_config": {
            "max_retries": 6,
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=5),
                "base": 2,
            },
            "retry_timeout": timedelta(seconds=3 * _timeout_s()),
        },
    }
    with explained(url):
        if kind == "s3":
            return store.S3Store(bucket, **options, **_aws_options())
        if kind == "gs":
            return store.GCSStore(bucket, **options)
        return store.AzureStore(bucket, **options)


def _check_endpoints(url: str) -> None:
    for key, value in environment(url):
        if "ENDPOINT" in key and not value.startswith(("http://", "https://")):
            raise StoreError(f"{key} must begin with http:// or https://.")


def _allows_http(url: str) -> bool:
    """True where the environment names an endpoint without encryption, or allows one."""
    return any(
        (key.endswith("_ALLOW_HTTP") and value.lower() in ("true", "1"))
        or ("ENDPOINT" in key and value.startswith("http://"))
        or '"gcs_base_url": "http://' in value
        for key, value in environment(url)
    )


def _timeout_s() -> float:
    text = os.environ.get("QUADRAT_TIMEOUT_S", str(TIMEOUT_S))
    try:
        value = float(text)
    except ValueError:
        value = 0
    if value <= 0:
        raise StoreError(f"QUADRAT_TIMEOUT_S is a number of seconds. Received {text!r}.")
    return value


def _aws_options() -> dict[str, Any]:
    """Profiles of the AWS command line, where its library is installed and keys are not given."""
    given = {"AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE", "AWS_WEB_IDENTITY_TOKEN_FILE"}
    if given & os.environ.keys():
        return {}
    try:
        from botocore.session import Session  # type: ignore[import-untyped]
    except ImportError:
        return {}
    session = Session()
    found = session.get_credentials()
    if found is None:
        return {}

    def credentials() -> dict[str, Any]:
        # What roles and single sign-on give expires, and botocore renews it ten minutes before. A
        # credential without an end would be kept for ever, so it is asked for again in time.
        current = found.get_frozen_credentials()
        return {
            "access_key_id": current.access_key,
            "secret_access_key": current.secret_key,
            "token": current.token,
            "expires_at": datetime.now(UTC) + RENEWAL if current.token else None,
        }

    region = session.get_config_variable("region")
    return {"credential_provider": credentials, **({"region": region} if region else {})}


_STATUS = re.compile(r"status code: (\d{3})")
_BROKEN = re.compile(
    r"(?i)timed? ?out|connect|connection|reset|broken pipe|incomplete|closed|eof|body|error sending"
    r"|dns|retry",
)


def check_bucket(url: str, error: Exception) -> None:
    """Tell a missing bucket from a missing object.

    Raises:
        StoreError: There is no such bucket.
    """
    if re.search(r"NoSuchBucket|ContainerNotFound|bucket does not exist", str(error)):
        raise _no_bucket(url) from error


def _no_bucket(url: str) -> StoreError:
    bucket, _ = bucket_and_path(url)
    return StoreError(
        f"There is no bucket {bucket!r} in {OBJECT_STORES[scheme(url)]}, or its name is not yours "
        f"to see; create it, or correct the URL {url!r}."
    )


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what an object store answers into one clear line without secrets.

    Raises:
        TransientError: It may work when tried again.
        StoreError: It will not.
    """
    import obstore.exceptions

    try:
        yield
    except obstore.exceptions.BaseError as error:
        # No chain: the original text can hold headers and whole answers.
        raise _translated(url, error) from None
    except FileNotFoundError as error:
        check_bucket(url, error)
        raise


def _translated(url: str, error: Exception) -> StoreError:
    text = str(error)
    status = int(found[1]) if (found := _STATUS.search(text)) else 0
    if re.search(r"NoSuchBucket|ContainerNotFound|bucket does not exist", text):
        return _no_bucket(url)
    if _credentials_are_wrong(text, status):
        return StoreError(
            f"The credentials for {url!r} are missing or wrong; set {_CREDENTIALS[scheme(url)]}."
        )
    if status == 403:
        return StoreError(
            f"Permission denied at {url!r}: these credentials may not do this there, or the store "
            f"is read-only. Ask for the right, or write somewhere else."
        )
    # The first line, without what the server sent along: "...: <?xml ...".
    reason = without_secrets(text.splitlines()[0].partition(": <")[0])[:300]
    for key, value in environment(url):
        # What is quoted back at us, as of a key that cannot be read.
        if re.search("KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|SAS|ACCOUNT", key) and len(value) > 5:
            reason = reason.replace(value, "***").replace(value.strip("\"' "), "***")
    if status in (408, 409, 425, 429) or status >= 500 or (not status and _BROKEN.search(text)):
        return TransientError(f"{url!r} did not answer as it should: {reason}")
    return StoreError(f"{url!r} refuses: {reason}")


def _credentials_are_wrong(text: str, status: int) -> bool:
    return status == 401 or bool(
        re.search(
            r"InvalidAccessKeyId|SignatureDoesNotMatch|AuthenticationFailed|InvalidToken"
            r"|ExpiredToken|failed to authenticate|AuthorizationHeaderMalformed|169\.254\.169\.254"
            r"|metadata\.google\.internal|NoAuthenticationInformation|MissingAccountKey"
            r"|Account must be specified|must be specified",
            text,
        )
    )
