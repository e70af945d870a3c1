"""What an error of an object store's client means: whether it passes, what to call it, and what can be done.

Clients word their errors each in their own way, and some put into them what was sent. So nothing that a client or a
server says is repeated: only codes, and names of errors. Errors are told by name, as no client need be installed.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

Kind = Literal["missing", "taken", "beyond", "passing", "refused"]
"""missing: there is no such object; taken: there is one already; beyond: a range starts after its end; passing: try
again; refused: nobody need try again."""

_PASSING_NAMES = frozenset(
    {
        "TimeoutError",
        "ConnectionError",  # Python's, and botocore's
        "HTTPClientError",  # botocore's: ReadTimeoutError, ConnectionClosedError and others
        "ResponseParserError",
        "ResponseStreamingError",
        "IncompleteRead",
        "IncompleteReadError",
        "ClientPayloadError",  # aiohttp's, as are the next two
        "ClientConnectionError",
        "ServerDisconnectedError",
    }
)
_PASSING_CODES = frozenset(
    {
        "InternalError",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "IncompleteBody",
        "BadDigest",
        "XAmzContentSHA256Mismatch",
        "ConditionalRequestConflict",  # two conditional writes at once: neither is done yet
        "OperationAborted",
        "NoSuchUpload",  # of parts: when the answer to putting them together is lost, the client finds none to abort
    }
)
_PASSING_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})
_NO_CREDENTIALS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError"}
)
_OLD_CREDENTIALS = frozenset(
    {"CredentialRetrievalError", "TokenRetrievalError", "UnauthorizedSSOTokenError", "RefreshError"}
)
_WRONG_CREDENTIALS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "401"})
_NO_BUCKET = frozenset({"NoSuchBucket", "InvalidBucketName", "InvalidBucketNameError", "ParamValidationError"})
_ENVIRONMENT = (
    "S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or the machine's role; "
    "GCS: GOOGLE_APPLICATION_CREDENTIALS, or the machine's account"
)


def kind_of(error: BaseException) -> Kind | None:
    """What an error means; None for one that is not an object store's."""
    codes, names, status = _codes(error), _names(error), _status(error)
    if codes & _NO_BUCKET or names & _NO_BUCKET:
        return "refused"
    gone = isinstance(error, FileNotFoundError | IsADirectoryError) and not codes & _PASSING_CODES
    if gone or "NoSuchKey" in codes:
        return "missing"
    if isinstance(error, FileExistsError) or status == 412:
        return "taken"
    if status == 416:
        return "beyond"
    if codes & _PASSING_CODES or status in _PASSING_STATUS or (status is None and names & _PASSING_NAMES):
        return "passing"
    known = codes or status is not None or names & (_NO_CREDENTIALS | _OLD_CREDENTIALS)
    return "refused" if known or isinstance(error, OSError) or "BotoCoreError" in names else None


def called(error: BaseException) -> str:
    """An error by its code and HTTP status, or by its class's name."""
    status, codes = _status(error), sorted(code for code in _codes(error) if not code.isdecimal())
    if status is None and not codes:
        return type(error).__name__
    return " ".join([*([f"HTTP {status}"] if status is not None else []), *codes])


def remedy(error: BaseException, url: str) -> str:
    """What can be done about an error that does not pass."""
    codes, names = _codes(error), _names(error)
    if (codes | names) & _NO_BUCKET:
        bucket = url.partition("://")[2].partition("/")[0]
        return f"there is no bucket {bucket!r}; create it, or correct the URL (and AWS_ENDPOINT_URL, where you set one)"
    if names & _NO_CREDENTIALS:
        return f"no credentials were found; they come from the environment alone ({_ENVIRONMENT})"
    if names & _OLD_CREDENTIALS or codes & _WRONG_CREDENTIALS or _status(error) == 401:
        return f"the credentials are not accepted; renew or correct them in the environment ({_ENVIRONMENT})"
    if _status(error) == 403 or isinstance(error, PermissionError):
        return (
            "access is denied; the credentials are those of somebody else, or are not allowed to list the bucket, and "
            "to get, put and delete objects under the URL (s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject, "
            "s3:AbortMultipartUpload)"
        )
    if _status(error) in (301, 307, 400):
        return (
            "the bucket is elsewhere, or the credentials have expired; set AWS_REGION to the bucket's region, or "
            "AWS_ENDPOINT_URL to its server, or renew them"
        )
    if _status(error) == 501:
        return "this store cannot do what is asked; stillroom needs conditional writes (If-None-Match) and ranges"
    return "correct the URL, or the store's settings in the environment"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was made from; not those that were being handled as it came."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _names(error: BaseException) -> frozenset[str]:
    return frozenset(kind.__name__ for item in _chain(error) for kind in type(item).__mro__)


def _responses(error: BaseException) -> Iterator[dict[str, Any]]:
    """What botocore keeps of a server's answer."""
    for item in _chain(error):
        response = getattr(item, "response", None)
        if isinstance(response, dict):
            yield response


def _codes(error: BaseException) -> frozenset[str]:
    """Words only: anything else in its place is not repeated."""
    codes = (str(response.get("Error", {}).get("Code", "")) for response in _responses(error))
    return frozenset(code for code in codes if re.fullmatch(r"[A-Za-z0-9]{1,40}", code))


def _status(error: BaseException) -> int | None:
    """HTTP status of the answer; gcsfs's errors have it as `code`."""
    for response in _responses(error):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode") or response.get("Error", {}).get("Code")
        if str(found).isdecimal():
            return int(found)
    for item in _chain(error):
        if type(item).__name__ == "HttpError" and str(getattr(item, "code", None)).isdecimal():
            return int(item.code)  # type: ignore[attr-defined]
    return None
