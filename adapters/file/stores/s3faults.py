"""What botocore raises, in our words: `Invalid` where something is to be edited, `Unavailable` where it may work later."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from adapters.file.stores.store import Missing
from pipelines.errors import FlowError, Invalid, Unavailable

SHOWN_CHARACTERS = 200
RIGHTS = {
    "head_object": "s3:GetObject and s3:ListBucket",
    "list_objects_v2": "s3:ListBucket",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_parts": "s3:ListMultipartUploadParts",
    "get_object": "s3:GetObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "delete_object": "s3:DeleteObject",
}
"""The right that each request needs."""
WRONG = {
    "NoSuchBucket": "there is no such bucket; correct the connection's `url`",
    "InvalidBucketName": "no bucket can be called so; correct the connection's `url`",
    "InvalidAccessKeyId": "the access key is not known there; correct the connection's `access_key`",
    "SignatureDoesNotMatch": "the secret key is not that of the access key; correct the secret that `secret_key` names",
    "ExpiredToken": "the session token has expired; fetch new credentials",
    "InvalidToken": "the session token is not valid; fetch new credentials",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set the connection's `region`",
    "PermanentRedirect": "the bucket is in another region; set the connection's `region`",
    "IllegalLocationConstraintException": "the bucket is in another region; set the connection's `region`",
    "301": "the bucket is in another region; set the connection's `region`",
    "InvalidObjectState": "lies in an archive and cannot be read before it is restored",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "MethodNotAllowed": "the server has no such request; does the connection's `endpoint` speak S3?",
    "NotImplemented": "the server cannot do this; does the connection's `endpoint` speak S3?",
}
DENIED = ("AccessDenied", "403", "AllAccessDisabled", "AccountProblem", "Forbidden")
MISSING = ("NoSuchKey", "NoSuchUpload", "404", "NotFound")
CHANGED = ("PreconditionFailed", "412", "InvalidRange", "416", "ConditionalRequestConflict")
BUSY = (
    "SlowDown",
    "ServiceUnavailable",
    "503",
    "ThrottlingException",
    "TooManyRequests",
    "429",
    "RequestLimitExceeded",
)


def explained(shown: str, what: str, fault: Exception, attempts: int) -> FlowError:
    """A fault of the request `what` about `shown`, after so many attempts (0: it was only tried once)."""
    from botocore import exceptions as known

    if isinstance(fault, FlowError):
        return fault
    if isinstance(fault, known.ClientError):
        return _answered(shown, what, fault.response, attempts)
    words = _words(fault)
    if isinstance(fault, (known.NoCredentialsError, known.PartialCredentialsError, known.CredentialRetrievalError)):
        return Invalid(
            f"{shown}: there are no credentials: {words}; set `access_key` and `secret_key`, a `profile`, "
            "or the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `anonymous: true` for a public bucket"
        )
    if isinstance(fault, (known.ProfileNotFound, known.ParamValidationError, ValueError, known.ConfigParseError)):
        return Invalid(f"{shown}: {words}")
    if isinstance(fault, known.SSLError):
        return Invalid(f"{shown}: its certificate is not trusted: {words}; name its authority's file by `tls_root`")
    if isinstance(fault, known.EndpointConnectionError) and _is_unknown_host(fault.kwargs.get("error")):
        return Invalid(f"{shown}: no host has this name; correct the connection's `endpoint` or `region`")
    return Unavailable(
        f"{shown}: the connection was lost or cannot be made: {words}{_tried(attempts)}", asked_again=attempts > 0
    )


def _answered(shown: str, what: str, answer: Mapping[str, Any], attempts: int) -> FlowError:
    error = answer.get("Error", {})
    code, message = str(error.get("Code", "")), " ".join(str(error.get("Message", "")).split())[:SHOWN_CHARACTERS]
    if code in WRONG:
        return Invalid(f"{shown}: {WRONG[code]}")
    if code in DENIED:
        return Invalid(f"{shown}: access is denied; allow {RIGHTS.get(what, 'it')} to these credentials")
    if code in MISSING:
        return Missing(f"{shown}: is gone; it was there when the run was planned", asked_again=True)
    if code in CHANGED:
        return Unavailable(f"{shown}: was replaced while the run was reading it; run again", asked_again=True)
    if code in BUSY:
        return Unavailable(f"{shown}: the server asks for less: {code}{_tried(attempts)}", asked_again=True)
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    told = f"{shown}: the server answers {code or status}: {message}".rstrip(": ")
    if 400 <= status < 500 and code != "RequestTimeout":
        return Invalid(told)
    return Unavailable(told + _tried(attempts), asked_again=True)


def _is_unknown_host(fault: BaseException | None) -> bool:
    """Whether nobody knows the name; a name server that does not answer may answer later."""
    while fault is not None and not isinstance(fault, socket.gaierror):
        fault = fault.__cause__ or fault.__context__
    return fault is not None and fault.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


def _tried(attempts: int) -> str:
    return f" (asked {attempts} times)" if attempts > 1 else ""


def _words(fault: BaseException) -> str:
    """A fault's own words, without the parameters that a request's address may hold."""
    return " ".join((str(fault) or type(fault).__name__).split())[:SHOWN_CHARACTERS].partition("?")[0]
