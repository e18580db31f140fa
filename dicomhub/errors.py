"""Every error that may leave an archive function, with its wire codes as data.

::

    DicomHubError                       500  0x0110  something here is wrong, not in the request
    ├── ConfigurationError              500  0x0110  the server cannot start with this configuration
    ├── Corrupt                         500  0x0110  stored bytes are not what their digest says
    ├── Unavailable                     503  0x0110  a part we need does not answer (in time)
    │   └── OutOfResources              503  0xA700  disk, memory or a configured limit
    ├── BadRequest                      400  0xC000  the request cannot be understood
    │   └── InvalidQuery                400  0xA900  a matching key or parameter is wrong (PS3.18 8.3.4)
    ├── Unauthenticated                 401  0x0124  we do not know who asks
    ├── Forbidden                       403  0x0124  we know, and may not
    ├── NotFound                        404  0x0112  no such resource
    ├── MethodNotAllowed                405  0x0211  the resource exists, the method does not
    ├── NotAcceptable                   406  0x0122  no representation that the user agent accepts (PS3.18 8.7.5)
    ├── Conflict                        409  0x0111  the state forbids it
    ├── PayloadTooLarge                 413  0xA700
    ├── UnsupportedMediaType            415  0xC000
    └── Refused                         409  0x0110  one instance is not stored (PS3.4 B.2.3, PS3.18 I.2)
        ├── NotDicom                    409  0xC000  no DICOM data set can be read from the bytes
        ├── Truncated                   409  0xC000  the bytes end inside an element
        ├── MissingIdentifier           409  0xA900  no usable Study, Series or SOP Instance UID or SOP Class UID
        ├── MismatchedStudy             409  0xA900  not of the study named by the target resource
        └── UnsupportedSOPClass         409  0x0122

Each class carries ``http_status``, ``dimse_status`` and (for refused instances) ``failure_reason``; the faces look
nothing else up.
"""

from __future__ import annotations


class DicomHubError(Exception):
    """Base of all; ``message`` is safe to show to the requester and names the field and the remedy."""

    http_status: int = 500
    dimse_status: int = 0x0110

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def code(self) -> str:
        """The class name, a stable machine-readable code."""
        return type(self).__name__


class ConfigurationError(DicomHubError):
    """The configuration is contradictory or unsafe; the message names the setting."""


class Corrupt(DicomHubError):
    """Stored bytes are missing or do not have the digest they are named by."""


class Unavailable(DicomHubError):
    """A database, bucket or worker does not answer in time; trying again may help."""

    http_status = 503


class OutOfResources(Unavailable):
    """No space or a configured limit is reached (PS3.7 C.5.20, A7xx)."""

    dimse_status = 0xA700


class BadRequest(DicomHubError):
    """The request is malformed."""

    http_status = 400
    dimse_status = 0xC000


class InvalidQuery(BadRequest):
    """A query parameter or identifier is wrong."""

    dimse_status = 0xA900


class Unauthenticated(DicomHubError):
    """Credentials are missing or wrong."""

    http_status = 401
    dimse_status = 0x0124


class Forbidden(DicomHubError):
    """The actor may not do this."""

    http_status = 403
    dimse_status = 0x0124


class NotFound(DicomHubError):
    """No such resource, or none that the actor may see."""

    http_status = 404
    dimse_status = 0x0112


class MethodNotAllowed(DicomHubError):
    """The resource has no such method."""

    http_status = 405
    dimse_status = 0x0211


class NotAcceptable(DicomHubError):
    """No acceptable representation exists (PS3.18 8.7.5)."""

    http_status = 406
    dimse_status = 0x0122


class Conflict(DicomHubError):
    """The request contradicts the present state."""

    http_status = 409
    dimse_status = 0x0111


class PayloadTooLarge(DicomHubError):
    """The request is larger than the configured limit."""

    http_status = 413
    dimse_status = 0xA700


class UnsupportedMediaType(DicomHubError):
    """The request body has a media type that the resource does not take."""

    http_status = 415
    dimse_status = 0xC000


class Refused(DicomHubError):
    """One instance is not stored; its neighbours in the same request are unaffected.

    Parameters
    ----------
    message
        Why, in one sentence, for the sender.
    failure_reason
        Overrides the class's code: Failure Reason (0008,1197) of PS3.18 I.2 and the C-STORE status of PS3.4 B.2.3.
    """

    http_status = 409
    failure_reason: int = 0x0110

    def __init__(self, message: str, failure_reason: int | None = None) -> None:
        super().__init__(message)
        if failure_reason is not None:
            self.failure_reason = failure_reason
        self.dimse_status = self.failure_reason


class NotDicom(Refused):
    """No DICOM data set can be read from the bytes."""

    failure_reason = 0xC000


class Truncated(Refused):
    """The bytes end inside an element."""

    failure_reason = 0xC000


class MissingIdentifier(Refused):
    """A UID that names the instance is absent, empty or no UID (PS3.5 9)."""

    failure_reason = 0xA900


class MismatchedStudy(Refused):
    """The instance belongs to another study than the target resource names (PS3.18 10.5.1)."""

    failure_reason = 0xA900


class UnsupportedSOPClass(Refused):
    """The SOP class is not one that this server stores."""

    failure_reason = 0x0122
